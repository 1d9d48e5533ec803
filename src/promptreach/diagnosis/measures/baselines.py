"""The ladder: the head alone, prompts of several lengths, a prefix and LoRA, on the same rows with the same steps.

Each rung lifts a restriction of the one before: a prompt may only speak at the input, a prefix has keys and values of
its own at every layer, LoRA changes how content attends to content. Where the loss falls tells which restriction binds,
and the prompts among each other tell whether it is their number.
"""

import math
from collections.abc import Sequence
from typing import Any

from promptreach.certificate import Evidence
from promptreach.diagnosis.experiment import Measured, Study
from promptreach.diagnosis.measures.comparison import paired, run_values, score_values
from promptreach.diagnosis.rules.measurements import LENGTH_HELPS, MARGIN
from promptreach.training.methods.budget import parameter_count
from promptreach.training.runs import Run, RunConfig
from promptreach.training.search.sweep import Sweep, sweep
from promptreach.training.task.objective import Outcomes


def train_control(study: Study) -> Run:
    """The head-only control (for completions: the bare model), trained once."""
    if "head" not in study.sweeps:
        study.sweeps["head"] = sweep(study.executor_of(study.task), study.config("head"), rates=[0.0])
    return study.sweeps["head"].best


def train_ladder(study: Study) -> dict[str, Sweep]:
    """One sweep a method; prompts of other lengths take the learning rate that the middle length chose.

    Prompts longer than the middle one come last, and not at all where `longer_cannot_help`.
    """
    middle, theirs = study.prefix_tokens, study.theirs
    shorter, longer = ([t for t in study.tokens if t < middle], [t for t in study.tokens if t > middle])
    configs = [study.config("prompt", tokens=tokens) for tokens in (middle, *shorter)]
    configs += [study.config("prefix", tokens=middle), study.config("lora", rank=study.rank or equal_rank(study))]
    if theirs is not None:
        configs.append(study.config(theirs.method, tokens=theirs.tokens, rank=theirs.rank))
    _train(study, configs)
    if study.every_length or not longer_cannot_help(study):
        _train(study, [study.config("prompt", tokens=tokens) for tokens in longer])
    return {name: entry for name, entry in study.sweeps.items() if name != "head"}


def longer_cannot_help(study: Study) -> bool:
    """Whether the prompt of middle length is as good as LoRA, and no better than the next shorter one.

    Then tokens do not bind: longer prompts may still be a little better, but the middle one fits whatever they do.
    """
    runs = [entry.best for entry in study.sweeps.values() if entry.best.status == "finished"]
    prompts = sorted((run for run in runs if run.config.method == "prompt"), key=lambda run: run.config.tokens)
    below = [run for run in prompts if run.config.tokens < study.prefix_tokens]
    middle = next((run for run in prompts if run.config.tokens == study.prefix_tokens), None)
    lora = next((run for run in runs if run.config.method == "lora"), None)
    if middle is None or lora is None or not below or middle.held_out is None or lora.held_out is None:
        return False
    against = paired(middle.held_out, lora.held_out, study.metric, every_row=study.every_row)
    saved = below[-1].validation.mean_loss - middle.validation.mean_loss
    return against["low"] >= -MARGIN[study.metric] and saved < LENGTH_HELPS


def _train(study: Study, configs: Sequence[RunConfig]) -> None:
    """Add the sweep of each of `configs` that is not there yet."""
    executor = study.executor_of(study.task)
    for config in configs:
        if config.label in study.sweeps:
            continue
        known = [entry.best.config for entry in study.sweeps.values()]
        rates = [one.learning_rate for one in known if one.method == config.method][:1]
        study.sweeps[config.label] = sweep(executor, config, rates=rates or None)


def equal_rank(study: Study) -> int:
    """The LoRA rank whose parameters come closest to those of the longest prompt; at least 1."""
    backbone = study.task.backbone
    return max(1, round(max(study.tokens) * backbone.hidden_size / parameter_count(backbone, "lora", rank=1)))


def measure(study: Study, own: Outcomes | None, own_status: str = "finished") -> Measured:
    """Train the control and the ladder, and compare all of them with LoRA, the control and the user's own.

    Args:
        study: its `sweeps` are filled.
        own: the outcomes of the user's own adapter or attempt on the held-out rows, or None.
        own_status: ``diverged`` when the attempt's loss stopped being a number.
    """
    control = train_control(study)
    runs = {"head": control} | {name: entry.best for name, entry in train_ladder(study).items()}
    outcomes = {name: run.held_out for name, run in runs.items() if run.held_out is not None}
    if own is not None:
        outcomes["yours"] = own
    lora = next(name for name, run in runs.items() if run.config.method == "lora")

    def against(other: str) -> dict[str, dict[str, float]]:
        if other not in outcomes:
            return {}
        return {
            name: paired(found, outcomes[other], study.metric, every_row=study.every_row)
            for name, found in outcomes.items()
            if name != other
        }

    theirs = study.theirs
    yours: dict[str, Any] | None = None
    if own is not None and theirs is not None:
        yours = score_values(own) | {
            "status": own_status,
            "kind": "adapter" if study.adapter is not None else "attempt",
            "method": theirs.method,
            "tokens": theirs.tokens,
            "rank": theirs.rank,
        }
    values = {
        "metric": study.metric,
        "goal": study.goal,
        "rows_judged": study.judged_rows,
        "train_rows": len(study.task.train),
        "held_out_rows": len(study.task.held_out),
        "methods": {name: run_values(run, _largest_rate(study, run.config.method)) for name, run in runs.items()},
        "against_lora": against(lora),
        "against_head": against("head"),
        "against_yours": against("yours"),
        "lora": lora,
        "lengths_left_out": [
            tokens for tokens in study.tokens if study.config("prompt", tokens=tokens).label not in study.sweeps
        ],
        "yours": yours,
    }
    return Measured("training", Evidence.MEASURED, study.sample, values)


def _largest_rate(study: Study, method: str) -> float:
    """The largest rate tried for a method in more than one trial; infinite without trials.

    The smallest does not matter: where it is the best, training only did harm, and a smaller one would do less.
    """
    rates = [
        trial.config.learning_rate
        for entry in study.sweeps.values()
        for trial in entry.trials
        if trial.config.method == method
    ]
    return max(rates) if len(rates) > 1 else math.inf
