"""The three budgets of an audit, and the settings that follow from them and from what the user chose."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from promptreach.diagnosis.numbers import BASELINES
from promptreach.errors import Fault, InputError
from promptreach.training.arguments import MIN_CONTENT
from promptreach.training.choices import Choices
from promptreach.training.task.class_weights import ClassWeights
from promptreach.training.task.judging import PLAIN, Judging
from promptreach.training.task.limits import Limits
from promptreach.training.task.metric_names import Metric

BudgetName = Literal["quick", "standard", "thorough"]

_FULL_BATCH_PARAMETERS = 16e6
"""Up to this many parameters (embeddings left out) a step takes 32 examples; larger models take fewer, so that a
step's cost grows more slowly than the model. It depends on the model only, never on the machine: the same call gives
the same report."""
_LEAST_ROWS = {"train": 256, "validation": 96, "held_out": 256}
"""Rows below which no part is scaled down with the batches."""


@dataclass(frozen=True)
class Settings:
    """The amount of work that an audit does.

    Attributes:
        budget: the name these settings came from.
        seed: for the split, the starts and the order of the examples.
        limits: how much of the data is used.
        tokens: lengths of the prompts trained, ascending; prefixes get the middle one.
        rank: of the LoRA update.
        steps, batch_size: of a full training run; the search for a rate starts with an eighth of them a candidate.
        probe_rows: held-out examples on which queries and keys are captured.
        seeds: how many seeds the winners are trained with.
        methods: what is trained beside the control.
        lora_targets: the projections that LoRA adapts; none means queries and values.
        learning_rates: by method; a method that is not there searches among its own.
        metric: that decides; None takes the usual one of the kind of task.
        class_weights: ``"balanced"``, or by the name of the class; None where all count alike.
        judging: how answers are judged beside their loss.
        init_text: what prompts and prefixes start from; empty takes their usual starts.
        method_config: of a method of PEFT that is trained beside them, as text.
        instruction, shots: words to put in front of the rows for the bare model, and how many examples.
        accumulate: slices of a step's rows, whose gradients are added up.
        serve_with: the server that the recommended adapter is for; empty for any.
    """

    budget: BudgetName
    seed: int
    limits: Limits
    tokens: tuple[int, ...]
    rank: int
    steps: int
    batch_size: int
    probe_rows: int
    seeds: int = 1
    methods: tuple[str, ...] = BASELINES
    lora_targets: tuple[str, ...] = ()
    learning_rates: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    metric: Metric | None = None
    class_weights: ClassWeights = None
    judging: Judging = PLAIN
    instruction: str = ""
    shots: int = 0
    init_text: str = ""
    method_config: str = ""
    accumulate: int = 1
    serve_with: str = ""

    @property
    def every_run(self) -> bool:
        """Whether all is trained, also what cannot change the verdict any more; so it is where methods were chosen."""
        return self.budget == "thorough" or self.methods != BASELINES or bool(self.method_config)

    @property
    def longest_training(self) -> int:
        """The most times over that the steps are trained, where the verdict hangs on runs that were not done."""
        return 1 if self.budget == "quick" else 4


BUDGETS: dict[BudgetName, Settings] = {
    "quick": Settings("quick", 0, Limits(1200, 256, 1024, 128), (4, 16), 8, 75, 32, 32),
    "standard": Settings("standard", 0, Limits(4096, 512, 2048, 256), (4, 16, 64), 8, 400, 32, 64),
    "thorough": Settings("thorough", 0, Limits(16384, 1024, 4096, 512), (1, 4, 16, 64, 128), 16, 1600, 32, 64),
}


def settings_for(
    budget: BudgetName, seed: int, num_parameters: int, max_positions: int, choices: Choices | None = None
) -> Settings:
    """The settings for a model with that many parameters (embeddings left out) and that much context.

    What `choices` leave open is the budget's; of its lengths, those that leave no room for content are not tried.

    Raises:
        InputError: when not even the shortest prompt leaves room, or one that was chosen does not.
    """
    choices, usual = choices or Choices(), BUDGETS[budget]
    room = max_positions - MIN_CONTENT
    tokens = choices.tokens or tuple(length for length in usual.tokens if length <= room)
    if not tokens:
        seen, needed = f"a context of {max_positions} tokens", usual.tokens[0] + MIN_CONTENT
        raise InputError(Fault("model", seen, f"at least {needed}, for virtual tokens and content"))
    if max(tokens) > room:
        seen = f"{max(tokens)} virtual tokens in a context of {max_positions}"
        raise InputError(Fault("tokens", seen, f"at most {room}"))
    size = 32
    while size > 4 and num_parameters * size > 2 * 32 * _FULL_BATCH_PARAMETERS:
        size //= 2
    limits = _scaled(usual.limits, size / 32)
    return replace(
        usual,
        seed=seed,
        seeds=choices.seeds,
        tokens=tokens,
        rank=choices.rank or usual.rank,
        steps=choices.steps or usual.steps,
        batch_size=choices.batch_size or size,
        limits=replace(limits, max_length=choices.max_length or limits.max_length),
        methods=choices.methods or usual.methods,
        lora_targets=choices.lora_targets or (),
        learning_rates=choices.learning_rates,
        accumulate=choices.accumulate,
    )


def _scaled(limits: Limits, share: float) -> Limits:
    """As much less data as the batches are smaller, since scoring rows costs what training on them costs."""
    rows = {part: getattr(limits, part) for part in _LEAST_ROWS}
    return replace(
        limits, **{part: min(count, max(_LEAST_ROWS[part], round(share * count))) for part, count in rows.items()}
    )
