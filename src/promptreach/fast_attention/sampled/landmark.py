"""The landmark method: every query attends to a few hundred or thousand slots, refitted on sampled exact rows.

Steps, for each key/value head:

1. `draw_slots`: cluster the keys in the metric of the queries; each cluster is a slot with its own mass and value.
2. `Refit`: a ridge correction of the slots' values and weights makes sampled queries exact.
3. A trial on rows that were not fitted chooses the ridge, and says whether more slots are needed.
4. All queries attend to the slots, except the few that are unlike all others, which are computed exactly; held-out
   exact rows certify the error.

For a fixed number of slots and rows time and memory are linear in queries and keys. The answer is a smooth function of
the query, so heads with smooth answers need few slots; heads that look for single keys need `clustered` attention.

Reference: Nystrom's method with a prior; theorem key ``held-out-rows`` for the certificate.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from promptreach.errors import Fault, InputError
from promptreach.fast_attention.answers import Answer, Option, answer_all
from promptreach.fast_attention.job import HeadJob
from promptreach.fast_attention.problem import AttentionProblem
from promptreach.fast_attention.report import AttentionReport, ToleranceNotReachedError
from promptreach.fast_attention.sampled.centres import draw_slots
from promptreach.fast_attention.sampled.refit import RIDGES, Landmarks, Refit

Rung = tuple[int, int]

RUNGS: tuple[Rung, ...] = (
    (256, 512),
    (512, 1024),
    (1024, 2048),
    (1536, 2048),
    (2048, 2048),
    (2048, 3072),
    (2048, 4096),
    (4096, 4096),
    (4096, 8192),
)
"""(slots, fit rows), from cheap to dear. What is held for a fit is rows * slots and twice the smaller squared."""

MASS_ROWS = 64

GAIN = 0.4
"""The error is predicted to fall like (slots * rows)^-GAIN, which MiniLM's smooth heads do or beat."""

HEAVY, SECOND = 0.005, 0.03
"""Shares of rows computed exactly, at once and when the first certificate misses: those whose queries are least like
the sampled ones, where a fit knows least."""

SLOT = 1.2
"""A query and a slot cost this many exact pairs, for the coordinate that carries the bias."""
GRAM_FLOPS = 130.0
"""Multiplications and additions in the time of one exact pair."""


def landmark(
    problem: AttentionProblem, tol: float, relative_to: str, generator: torch.Generator, workspace: int
) -> tuple[Tensor, AttentionReport]:
    """Attention to landmarks; the error is MEASURED on held-out exact rows, with a confidence and no assumption.

    Deterministic for a generator's state. Gradients reach queries, keys and values through the answer and through the
    fit of values and weights; which slots there are is fixed. Bidirectional only.

    Raises:
        ToleranceNotReachedError: for causal problems, for fewer than 1,024 queries or keys, and when no number of slots
            keeps to `tol` on the trial rows or on the held-out rows.
    """
    return answer_all("landmark", problem, tol, relative_to, generator, workspace, options)


def fit_landmarks(job: HeadJob, slots: int, rows: int, ridges: Sequence[float] = RIDGES) -> tuple[Landmarks, float]:
    """`slots` landmarks fitted on `rows` exact rows, and the ridge that did best on the trial rows.

    Args:
        ridges: descending; the search ends at the first that does worse than the one before.

    Raises:
        InputError: for more slots than keys or more rows than queries.
        ToleranceNotReachedError: when the normal equations are singular for every ridge.
    """
    limits = (("slots", slots, len(job.key), "keys"), ("rows", rows, len(job.query), "queries"))
    faults = [
        Fault(name, str(count), f"between 1 and the {most} {what}")
        for name, count, most, what in limits
        if not 1 <= count <= most
    ]
    if faults:
        raise InputError(faults)
    query, exact = job.fit_rows(rows)
    seen = query.detach()
    drawn = draw_slots(
        seen, exact.log_mass[:MASS_ROWS].detach(), job.key.detach(), job.value.detach(), slots, job.generator
    )
    refit = Refit(query, exact, drawn, job.value)
    best: tuple[Landmarks, float] | None = None
    least = float("inf")
    for ridge in ridges:
        tried = refit.landmarks(ridge)
        error = float("inf") if tried is None else trial_error(job, tried)
        if tried is None or (best is not None and error >= least):
            break
        best, least = (tried, ridge), error
    if best is None:
        raise ToleranceNotReachedError("landmark", job.tol, ["the normal equations are singular for every ridge"])
    return best


def trial_error(job: HeadJob, landmarks: Landmarks) -> float:
    """The error of landmarks on the trial rows."""
    with torch.no_grad():
        return job.error(landmarks(job.query[job.trial]).mean, job.trial_exact())


def options(job: HeadJob, workspace: int, at_risk: float = math.inf) -> list[Option]:
    """The cheapest rung that should keep to the tolerance, from a pilot at the first rung; none where none should.

    Args:
        at_risk: what fits may cost, in exact pairs, before a trial shows whether they will do.
    """
    if min(len(job.key), len(job.query)) < 2 * RUNGS[0][1]:
        return []
    first = RUNGS[0]
    landmarks, ridge = fit_landmarks(job, *first)
    rungs = [
        (slots, rows)
        for slots, rows in RUNGS
        if rows <= len(job.query) // 2
        and slots <= len(job.key) // 2
        and _fit_pairs(job, (slots, rows)) <= at_risk
        and job.key.element_size() * (rows * slots + 2 * min(slots, rows) ** 2) <= workspace
    ]
    error = trial_error(job, landmarks)
    rungs = _promising(job, first, error, rungs)
    # Larger fits want a ridge that is smaller by two decades or so.
    ridges = RIDGES[min(RIDGES.index(ridge) + 2, len(RIDGES) - 1) :]
    return [_option(job, rungs, _predicted(first, error, rungs[0]), ridges, at_risk)] if rungs else []


def _option(job: HeadJob, rungs: Sequence[Rung], predicted: float, ridges: Sequence[float], at_risk: float) -> Option:
    slots, rows = rungs[0]
    pairs = _pairs(job, rungs[0])

    def run() -> Answer:
        landmarks, tried = _climb(job, rungs, ridges, at_risk)
        order = job.unusual_rows()
        heavy, more = (round(share * len(order)) for share in (HEAVY, SECOND))
        first = job.with_exact_rows(landmarks(job.query).mean, order[:heavy])

        def better() -> Answer:
            return Answer(job.with_exact_rows(first, order[heavy : heavy + more]), tried)

        return Answer(first, tried, better)

    return Option("landmark", pairs, predicted, f"{slots} landmarks fitted on {rows} exact rows should do", run)


def _climb(job: HeadJob, rungs: Sequence[Rung], ridges: Sequence[float], at_risk: float) -> tuple[Landmarks, int]:
    """The first rung that reaches the aim on the trial rows, and its slots, while all fits together cost little enough.

    A trial that misses predicts the larger rungs better than the pilot did; those that it rules out are left out. With
    no rung left, one that reached the tolerance if not the aim still gets its chance: a certificate costs less than to
    give up.
    """
    seen, spent, rows_known = "", 0.0, 0
    while True:
        slots, rows = rungs[0]
        landmarks, _ = fit_landmarks(job, slots, rows, ridges)
        error = trial_error(job, landmarks)
        if error <= job.aim:
            return landmarks, slots
        seen = f"{slots} landmarks fitted on {rows} exact rows: {error:.2g} on the trial rows"
        spent, rows_known = spent + _fit_pairs(job, rungs[0], rows_known), rows
        rungs = [
            rung
            for rung in _promising(job, rungs[0], error, rungs[1:])
            if spent + _fit_pairs(job, rung, rows_known) <= at_risk
        ]
        if rungs:
            continue
        if error <= job.tol:
            return landmarks, slots
        raise ToleranceNotReachedError("landmark", job.tol, [seen])


def _promising(job: HeadJob, tried: Rung, error: float, rungs: Sequence[Rung]) -> list[Rung]:
    """From the first rung on that is predicted to reach the aim."""
    good = [place for place, rung in enumerate(rungs) if _predicted(tried, error, rung) <= job.aim]
    return list(rungs[good[0] :]) if good else []


def _predicted(tried: Rung, error: float, rung: Rung) -> float:
    return float(error * (tried[0] * tried[1] / (rung[0] * rung[1])) ** GAIN)


def _pairs(job: HeadJob, rung: Rung) -> float:
    """Predicted cost of a fit and of all queries, in exact pairs."""
    return _fit_pairs(job, rung) + SLOT * rung[0] * len(job.query)


def _fit_pairs(job: HeadJob, rung: Rung, rows_known: int = 0) -> float:
    """Predicted cost of a fit, in exact pairs, where some of its exact rows are known already."""
    slots, rows = rung
    return SLOT * (rows - rows_known) * len(job.key) + 2 * slots * rows * min(slots, rows) / GRAM_FLOPS + 16 * slots**2
