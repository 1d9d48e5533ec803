"""Made-up numbers for the rules: prompts of 1, 4 and 16 tokens, a prefix and LoRA."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from promptreach.diagnosis.controls import PlantedNumbers
from promptreach.diagnosis.numbers import (
    USER,
    AttemptNumbers,
    BareNumbers,
    ChangedSetting,
    Comparison,
    DataNumbers,
    Geometry,
    Goal,
    RunNumbers,
    StartNumbers,
    TrainingNumbers,
    UserNumbers,
)
from promptreach.diagnosis.rules.rules import judge
from promptreach.diagnosis.verdict import Judgement
from promptreach.training.task.metric_names import Metric

SOFT = ("prompt 4 tokens", "prompt 16 tokens", "prefix 16 tokens", "prompt 1 token")
NAMES = ("head", *SOFT, "lora rank 8")
SCORES = {"accuracy": 0.80, "accuracy_error": 0.01, "loss": 0.5, "all_right": 0.8}
PLAIN = RunNumbers(
    **SCORES,
    method="head",
    tokens=0,
    rank=0,
    init="vocabulary",
    learning_rate=0.01,
    parameters=10,
    status="finished",
    seconds=1.0,
    steps=200,
    schedule=200,
    best_step=150,
    train_loss=0.4,
    train_fell=0.3,
    validation_loss=0.5,
    start_loss=0.7,
    rate_at_edge=False,
    still_falling=0.0,
)
START = StartNumbers(
    bare_loss=0.5,
    prompt_start_loss={"random (start)": 0.9, "vocabulary (start)": 0.6},
    prefix_start_loss={},
    geometry={"your prompt": Geometry(7.5, 1.0, 0.1)},
    far_out=("your prompt",),
)


def compared(gain: float, error: float = 0.01) -> Comparison:
    return Comparison(gain, gain - 1.6449 * error, gain + 1.6449 * error, error)


def numbers(
    prompt_gain: float = -0.10,
    error: float = 0.01,
    metric: Metric = "accuracy",
    goal: Goal = "generalise",
    user: float | None = None,
    own: Mapping[str, Any] | None = None,
    data: Mapping[str, Any] | None = None,
    methods: Mapping[str, Mapping[str, Any]] | None = None,
    gains: Mapping[str, float] | None = None,
    head_gain: float = 0.05,
    lora_over_head: float = 0.05,
    train_rows: int = 1000,
    planted: float | None = 0.9,
    path: tuple[ChangedSetting, ...] = (),
) -> list[object]:
    """Prompts of 1, 4 and 16 tokens, a prefix and LoRA, with these gains over LoRA.

    Args:
        user: the gain over LoRA of the user's own 16-token prompt, or None.
        own: what else is known of it.
        gains: over LoRA, by name, where they are not `prompt_gain`.
        path: of the ablation.
    """
    runs = {
        "head": PLAIN,
        "prompt 4 tokens": replace(PLAIN, method="prompt", tokens=4),
        "prompt 16 tokens": replace(PLAIN, method="prompt", tokens=16),
        "prefix 16 tokens": replace(PLAIN, method="prefix", tokens=16, init="text"),
        "prompt 1 token": replace(PLAIN, method="prompt", tokens=1),
        "lora rank 8": replace(PLAIN, method="lora", rank=8, init="zero"),
    }
    runs |= {name: replace(runs[name], **changed) for name, changed in (methods or {}).items()}
    over_lora = dict.fromkeys(NAMES[:-1], prompt_gain) | dict(gains or {})
    against_user: dict[str, Comparison] = {}
    brought = None
    if user is not None:
        over_lora[USER] = user
        against_user = {name: compared(over_lora.get(name, 0.0) - user, error) for name in runs}
        scores = {**SCORES, "accuracy": 0.6, "loss": 0.9}
        brought = UserNumbers(**scores, status="finished", kind="attempt", method="prompt", tokens=16, rank=0)
        brought = replace(brought, **(own or {}))
    against_head = {name: compared(head_gain) for name in [*runs, USER] if name != "head"}
    against_head["lora rank 8"] = compared(lora_over_head)
    found: list[object] = [
        DataNumbers(
            rows=2000,
            classes=2 if metric == "accuracy" else 0,
            majority_share=0.5,
            different_inputs=2000,
            conflicting_rows=0,
            loss_floor=0.0,
            best_accuracy=1.0,
            truncated=0,
            median_tokens=10,
            longest_tokens=20,
            max_length=32,
        ),
        BareNumbers(**SCORES, pooling="mean", majority_accuracy=0.5),
        TrainingNumbers(
            metric=metric,
            goal=goal,
            rows_judged="1,000 held-out rows",
            train_rows=train_rows,
            held_out_rows=1000,
            methods=runs,
            against_lora={name: compared(gain, error) for name, gain in over_lora.items()},
            against_head=against_head,
            against_user=against_user,
            lora="lora rank 8",
            against_shorter=_against_shorter(runs, over_lora, error),
            layers=3,
            most_tokens=400,
            user=brought,
        ),
        START,
    ]
    found[0] = replace(found[0], **(data or {}))
    if planted is not None:
        found.append(PlantedNumbers("accuracy", 16, 0.01, 200, 0.5, 0.9, 1.0, planted, "finished"))
    if user is not None:
        whole = compared(sum((step.worth.gain for step in path), 0.0))
        found.append(AttemptNumbers(PLAIN, 7, {"init": "random"}, {}, path, whole))
    return found


def _against_shorter(
    runs: Mapping[str, RunNumbers], gains: Mapping[str, float], error: float
) -> dict[str, dict[str, Comparison]]:
    """The differences between two runs of one form, as their gains over LoRA tell them."""
    return {
        name: {
            other: compared(gains[name] - gains[other], error)
            for other, shorter in runs.items()
            if shorter.method == run.method and shorter.tokens < run.tokens
        }
        for name, run in runs.items()
        if run.method in ("prompt", "prefix")
    }


def changed(found: list[object], kind: type, **fields: Any) -> list[object]:
    """The same records, with these fields of the one of that kind."""
    return [replace(record, **fields) if isinstance(record, kind) else record for record in found]


def judged(**given: Any) -> Judgement:
    """The judgement on such numbers."""
    return judge(numbers(**given))
