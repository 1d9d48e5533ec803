"""Successive halving: train all candidates a little, drop the worse half, go on with the rest from where they are.

The rungs stand at doubling step counts, so every rung costs about the same: the first 3 of 3 candidates go to an eighth
of the steps, the better 2 to a quarter, the best to the end, for 1.375 full runs. The first rung lies behind the
warm-up, in which no candidate has seen its own rate yet; the later ones stand where a full run is looked at anyway, so
that one look serves both. Candidates climb on the schedule of the full run, so that what survives is the full run:
nothing is trained twice, and no decay is spent on a candidate that is dropped.

As long as no candidate is better than the start they share by more than the noise of the validation rows, none is
dropped: what leads there is luck, and the middle rate often sets off last.

The schedule stays the linear one of every run, although a rung is then judged before its decay. That blurs the choice
between neighbouring rates, whose full runs differ little; what costs much is a grid that ends short of the best rate,
and a sweep mends that by growing it.

The first rung favours rates that fall fast and rise again. So a candidate that was dropped comes back when the
survivors' further steps took all of them above where it stopped: it then takes the same steps, and the rung is judged
with it.

A rate that is too large falls fast and then stands still. So the best is looked at once more on its way to the end, at
twice the steps; where it gained no more than noise, the next smaller rate takes the same steps and is judged with it.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from promptreach.training.engines.executor import Executor
from promptreach.training.runs import Run, RunConfig
from promptreach.training.search.together import Search, alone
from promptreach.training.task.metric_names import Metric
from promptreach.training.task.metrics import score
from promptreach.training.task.objective import Outcomes
from promptreach.training.trainer import WARM_UP

FIRST_RUNG = 1 / 8
"""The first rung's steps as a share of the full run's; every later rung has twice as many as the one before."""
NOISE = 2.0
"""Standard errors of a paired difference up to which two states of a run, or of two runs, are alike."""


Rank = Callable[[Run], tuple[bool, float, float]]
"""The place of a run among others: lower is better; a diverged one only where all diverged."""


@dataclass(frozen=True, eq=False)
class Halving:
    """The outcome of a search over candidates.

    Attributes:
        trials: for every candidate its last run before the search decided, in the order tried.
        best: the settings of the full run that goes on from the best candidate.
    """

    trials: tuple[Run, ...]
    best: RunConfig


def halving(
    executor: Executor,
    candidates: Sequence[RunConfig],
    more: Callable[[Sequence[Run]], RunConfig | None] = lambda runs: None,
    start: Outcomes | None = None,
    rank: Rank | None = None,
) -> Halving:
    """The candidate that leads farthest down in validation loss, with the runs that show it.

    Deterministic: the same candidates on the same task give the same answer, on every executor and after every kill.

    Args:
        executor: trains the runs.
        candidates: at least one; full runs of equal `steps`. None of them is trained to the end here.
        more: looks at the runs so far and names a candidate to add, or None. Asked until it names none, after the first
            rung and once more after the last.
        start: the validation outcomes before any step, which all candidates share; None drops candidates at every rung.
        rank: orders runs, the preferred first; None goes by validation loss.

    Returns:
        Ties go to the earlier candidate; a diverged one is chosen only where all diverged.
    """
    return alone(executor, halved(candidates, more, start, rank))


def halved(
    candidates: Sequence[RunConfig],
    more: Callable[[Sequence[Run]], RunConfig | None] = lambda runs: None,
    start: Outcomes | None = None,
    rank: Rank | None = None,
) -> Search[Halving]:
    """The search that `halving` makes, for those that make several together; arguments and result as there."""
    rank = rank or by_loss
    configs = list(candidates)
    last = yield [_at_rung(config, 0) for config in configs]
    while (extra := more(last)) is not None:
        configs.append(extra)
        last += yield [_at_rung(extra, 0)]
    alive, kept, rung = list(range(len(configs))), len(configs), 0
    steps = configs[0].steps
    while kept > 1 and rung_steps(steps, rung + 1) < steps:  # a rung at the end would be a full run more
        if start is None or any(has_left(last[index].validation, start) for index in alive):
            kept = (kept + 1) // 2
            alive = sorted(sorted(alive, key=lambda index: rank(last[index]))[:kept])
        if kept > 1:
            rung += 1
            runs = yield [_at_rung(configs[index], rung) for index in alive]
            for index, run in zip(alive, runs, strict=True):
                last[index] = run
            while (leader := min(range(len(last)), key=lambda index: rank(last[index]))) not in alive:
                (last[leader],) = yield [_at_rung(configs[leader], rung)]
                alive.append(leader)
    # One more candidate that is named now takes as many steps as the leader has taken.
    while (extra := more(last)) is not None:
        configs.append(extra)
        last += yield [_at_rung(extra, rung)]
    best = min(range(len(last)), key=lambda index: rank(last[index]))
    if len(configs) > 1 and rung_steps(steps, rung + 1) < steps:
        best = yield from _looked_at_once_more(configs, last, best, rung + 1, rank)
    return Halving(tuple(last), configs[best])


def _looked_at_once_more(
    configs: Sequence[RunConfig], last: list[Run], best: int, rung: int, rank: Rank
) -> Search[int]:
    """The best once it took the steps of `rung`, or a smaller rate that is better there, each of which was asked for
    because the one before stood still; `last` is brought up to date."""

    def climb(index: int) -> Search[bool]:
        """Whether a candidate gained more than noise on the way."""
        before = last[index].validation
        (last[index],) = yield [_at_rung(configs[index], rung)]
        return has_left(last[index].validation, before)

    by_rate = sorted(range(len(configs)), key=lambda index: configs[index].learning_rate)
    smaller = by_rate[: by_rate.index(best)]
    gained = yield from climb(best)
    while smaller and not gained:
        index = smaller.pop()
        gained = yield from climb(index)
        if rank(last[index]) >= rank(last[best]):
            break
        best = index
    return best


def halving_steps(steps: int, candidates: int) -> int:
    """The optimiser steps of the runs that `halving` asks for, the full run not counted.

    A survivor's rungs are counted from its first step each time, as its progress is; those it took before are not
    taken again. Candidates that come back, and smaller rates that are asked of one that stands still, are not counted:
    whether any is is not known before.
    """
    total, rung = 0, 0
    alive = candidates
    while rung == 0 or (alive > 1 and rung_steps(steps, rung) < steps):
        total += alive * rung_steps(steps, rung)
        alive = (alive + 1) // 2
        rung += 1
    if candidates > 1 and rung_steps(steps, rung) < steps:
        total += rung_steps(steps, rung)
    return total


def rung_steps(steps: int, rung: int) -> int:
    """The steps at which a rung stands, of `steps` in all; the first lies behind the warm-up, the others at shares of
    the steps that a full run is looked at."""
    return min(steps, max((math.floor(WARM_UP * steps) + 1) << rung, round(steps * FIRST_RUNG * (1 << rung))))


def has_left(now: Outcomes, start: Outcomes) -> bool:
    """Whether a run is better than its start by more than the noise of the rows both are scored on; so it is on a
    single row, whose noise is not known."""
    saved = (start.loss - now.loss).double()
    return len(saved) < 2 or float(saved.mean()) > NOISE * float(saved.std()) / math.sqrt(len(saved))


def _at_rung(config: RunConfig, rung: int) -> RunConfig:
    return replace(config, pause=rung_steps(config.steps, rung), score_held_out=False)


def by_loss(run: Run) -> tuple[bool, float, float]:
    """Lower is better: where the run led, not the best it passed."""
    return run.status == "diverged", 0.0, run.validation.mean_loss


def by_metric(metric: Metric, positive: int = 1) -> Rank:
    """The order of runs by a metric on their validation rows, and among equals by their loss there.

    Accuracy, which many runs share, is a mean over answers as the loss is, and goes by the loss.

    Args:
        metric: that decides.
        positive: the label that F1 and average precision are about.
    """
    if metric in ("accuracy", "loss"):
        return by_loss

    def rank(run: Run) -> tuple[bool, float, float]:
        return run.status == "diverged", -score(metric, run.validation, positive), run.validation.mean_loss

    return rank
