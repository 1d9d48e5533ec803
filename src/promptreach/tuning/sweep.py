"""Choosing a learning rate: short trials, judged on the validation part, then one full run at the best."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from promptreach.progress import Progress
from promptreach.tuning.loop import train
from promptreach.tuning.methods import method_named
from promptreach.tuning.runs import Run, RunConfig, RunStore
from promptreach.tuning.task import Task

TRIAL_SHARE = 0.25
"""A trial's steps as a share of the full run's."""


@dataclass(frozen=True, eq=False)
class Sweep:
    """A full run at the learning rate that its trials chose.

    Attributes:
        trials: one short run a rate, in the order tried; empty when the rate was given.
        best: the full run.
    """

    trials: tuple[Run, ...]
    best: Run


def sweep(
    task: Task, config: RunConfig, store: RunStore, progress: Progress, rates: Sequence[float] | None = None
) -> Sweep:
    """Train `config` at the best of several learning rates.

    Args:
        task, config, store, progress: as for a single run; `config.learning_rate` is ignored when rates are tried.
        rates: absolute learning rates; None tries the method's own, scaled to the size of its start; an empty or
            one-element sequence tries nothing.
    """
    spec = method_named(config.method)
    if rates is None:
        with spec.attach(task.backbone, config.shape, task.encoded["train"].sequences) as trainable:
            rates = [_rounded(rate * trainable.unit) for rate in spec.rates]
    trials: list[Run] = []
    if len(rates) > 1:
        short = replace(config, steps=max(1, round(config.steps * TRIAL_SHARE)), evaluations=1, score_held_out=False)
        for rate in rates:
            trials.append(_shown(task, replace(short, learning_rate=rate), store, progress))
        # A diverged trial is scored at its start, which may well beat the place that a finished one led to.
        chosen = min(trials, key=lambda run: (run.status == "diverged", run.validation.mean_loss))
        config = replace(config, learning_rate=chosen.config.learning_rate)
    elif rates:
        config = replace(config, learning_rate=rates[0])
    return Sweep(tuple(trials), _shown(task, config, store, progress))


def planned_steps(config: RunConfig, trials: int) -> int:
    """The optimiser steps that a sweep with that many trials takes at most, for the time estimate."""
    return config.steps + trials * max(1, round(config.steps * TRIAL_SHARE)) if trials > 1 else config.steps


def _shown(task: Task, config: RunConfig, store: RunStore, progress: Progress) -> Run:
    with progress.task(f"{config.label}, rate {config.learning_rate:.3g}", total=config.steps) as step:
        return train(task, config, store, step)


def _rounded(rate: float) -> float:
    """Two significant digits: a rate that a person can type."""
    return float(f"{rate:.2g}")
