"""The choice of a learning rate: a search by halving, judged on the validation part, then the full run."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from promptreach.training.engines.executor import Executor
from promptreach.training.methods.methods import method_named
from promptreach.training.runs import Run, RunConfig
from promptreach.training.search.halving import Rank, by_loss, halved, halving_steps, has_left, rung_steps
from promptreach.training.search.together import Search, alone
from promptreach.training.task.objective import Outcomes
from promptreach.training.task.task import Task

MOST_EXTENSIONS = 6
"""How many rates a method's own grid grows by while its best rate stands at the edge."""


@dataclass(frozen=True, eq=False)
class Sweep:
    """A full run at the settings that its trials chose.

    Attributes:
        trials: one short run a candidate, in the order tried; empty when nothing was to be chosen. The full run went on
            from where the best of them stopped.
        best: the full run.
    """

    trials: tuple[Run, ...]
    best: Run

    @property
    def steps(self) -> int:
        """All optimiser steps that the sweep took."""
        return self.best.steps + sum(trial.steps for trial in self._dropped)

    @property
    def seconds(self) -> float:
        """All time that the sweep took, in wall seconds of one worker."""
        return self.best.seconds + sum(trial.seconds for trial in self._dropped)

    @property
    def _dropped(self) -> list[Run]:
        """The trials that the full run did not go on from."""
        return [trial for trial in self.trials if not _is_part(trial.config, self.best.config)]


def sweep(
    executor: Executor, config: RunConfig, rates: Sequence[float] | None = None, rank: Rank | None = None
) -> Sweep:
    """The full run of `config` at the best of several learning rates.

    Args:
        executor: trains the runs.
        config: a full run; its learning rate is ignored when several are tried.
        rates: absolute learning rates; None tries the method's own, scaled to the size of its start, and one more
            beyond the best for as long as that stands at the edge of the grid, `MOST_EXTENSIONS` times at most; smaller
            ones only once the search has passed its first rung, and while the smallest is better than its neighbour by
            more than the noise of the validation rows. An empty or one-element sequence tries nothing.
        rank: orders runs, the preferred first; None goes by validation loss.
    """
    return alone(executor, swept(executor.task, config, rates, rank))


def swept(
    task: Task, config: RunConfig, rates: Sequence[float] | None = None, rank: Rank | None = None
) -> Search[Sweep]:
    """The search that `sweep` makes on `task`, for those that make several together; the other arguments as there."""
    tried = own_rates(task, config) if rates is None else rates or (config.learning_rate,)
    candidates = [replace(config, learning_rate=rate) for rate in tried]
    if len(candidates) == 1:
        (only,) = yield candidates
        return Sweep((), only)

    def beyond(runs: Sequence[Run]) -> RunConfig | None:
        if rates is not None or len(runs) >= len(candidates) + MOST_EXTENSIONS:
            return None
        # After the first rung a small rate may lead because it did least, where training does harm before it helps.
        at_first = all(run.config.pause == rung_steps(config.steps, 0) for run in runs)
        rate = _rate_beyond_the_edge(runs, rank or by_loss, downwards=not at_first)
        return None if rate is None else replace(config, learning_rate=rate)

    found = yield from halved(candidates, beyond, start=start_outcomes(task, config), rank=rank)
    (best,) = yield [found.best]
    return Sweep(found.trials, best)


def own_rates(task: Task, config: RunConfig) -> list[float]:
    """The method's own learning rates, in units of a typical entry of the start, ascending; two significant digits."""
    spec = method_named(config.method)
    with spec.attach(task.backbone, config, task.encoded["train"].sequences) as trainable:
        return [_rounded(rate * trainable.rate_scale) for rate in spec.rates]


def start_outcomes(task: Task, config: RunConfig) -> Outcomes:
    """The validation outcomes before any step, which all runs from one start share; looked at once a task."""

    def look() -> Outcomes:
        with method_named(config.method).attach(task.backbone, config, task.encoded["train"].sequences) as trainable:
            return task.evaluate("validation", task.objective(), trainable.joined)

    return task.looked_once(config.start_name, look)


def planned_steps(config: RunConfig, candidates: int) -> int:
    """The steps of progress that a sweep over that many candidates makes, extensions not counted."""
    return config.steps + (halving_steps(config.steps, candidates) if candidates > 1 else 0)


def _rate_beyond_the_edge(runs: Sequence[Run], rank: Rank, *, downwards: bool) -> float | None:
    """One rate beyond the best, if that stands at the edge of what was tried."""
    best = min(runs, key=rank)
    tried = sorted(runs, key=lambda run: run.config.learning_rate)
    if best is tried[-1]:
        neighbour = tried[-2]
    elif best is tried[0] and downwards and has_left(best.validation, tried[1].validation):
        # Below some rate none does anything, and each is a hair better than the one above it.
        neighbour = tried[1]
    else:
        return None
    # At the distance of the neighbour: the grid keeps its ratio.
    return _rounded(best.config.learning_rate**2 / neighbour.config.learning_rate)


def _is_part(trial: RunConfig, whole: RunConfig) -> bool:
    return replace(trial, pause=whole.pause, score_held_out=whole.score_held_out) == whole


def _rounded(rate: float) -> float:
    """Two significant digits: a rate that a person can type."""
    return float(f"{rate:.2g}")
