"""The landmark method: every query attends to a few hundred or thousand slots, refitted on sampled exact rows.

Steps, for each key/value head:

1. `draw_slots`: cluster the keys in the metric of the queries; each cluster is a slot with its own mass and value.
2. `Refit`: a ridge correction of the slots' values and weights makes sampled queries exact.
3. A trial on rows that were not fitted chooses the ridge, and says whether more slots are needed.
4. All queries attend to the slots; held-out exact rows certify the error.

For a fixed number of slots and rows time and memory are linear in queries and keys. The answer is a smooth function of
the query, so heads with smooth answers need few slots; heads that look for single keys need `clustered` attention.

Reference: Nystrom's method with a prior; theorem key ``held-out-rows`` for the certificate.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from promptreach.errors import Fault, InputError
from promptreach.inference.answers import Answer, Option, answer_all
from promptreach.inference.centres import draw_slots
from promptreach.inference.job import HeadJob
from promptreach.inference.problem import AttentionProblem
from promptreach.inference.refit import RIDGES, Landmarks, Refit
from promptreach.inference.report import AttentionReport, ToleranceNotReachedError

RUNGS = ((256, 512), (512, 1024), (1024, 2048), (1536, 2048), (2048, 2048), (2048, 4096), (4096, 4096), (4096, 8192))
"""(slots, fit rows), from cheap to dear."""

MASS_ROWS = 64

GAIN = 0.4
"""The error is predicted to fall like (slots * rows)^-GAIN, which MiniLM's smooth heads do or beat."""

SPARE = 1.05
"""How far a trial may miss its aim and still be worth a certificate."""

SLOT = 1.3
"""A query and a slot cost this many exact pairs, for the coordinate that carries the bias."""
GRAM_FLOPS = 120.0
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


def options(job: HeadJob, workspace: int) -> list[Option]:
    """The cheapest rung that should keep to the tolerance, and the one after it, from a pilot at the first rung."""
    if min(len(job.key), len(job.query)) < 2 * RUNGS[0][1]:
        return []
    first = RUNGS[0]
    landmarks, ridge = fit_landmarks(job, *first)
    error = trial_error(job, landmarks)
    # More rows need a smaller ridge, never a larger one.
    ridges = RIDGES[RIDGES.index(ridge) :]
    found = []
    for slots, rows in RUNGS:
        predicted = error * (first[0] * first[1] / (slots * rows)) ** GAIN
        fits = rows <= len(job.query) // 2 and slots <= len(job.key) // 2
        memory = job.key.element_size() * rows * (slots + 2 * min(slots, rows))
        if predicted <= job.aim and fits and memory <= workspace:
            found.append(_option(job, slots, rows, predicted, ridges))
    return found[:2]


def _option(job: HeadJob, slots: int, rows: int, predicted: float, ridges: Sequence[float]) -> Option:
    def run() -> Answer:
        landmarks, _ = fit_landmarks(job, slots, rows, ridges)
        error = trial_error(job, landmarks)
        if error > SPARE * job.aim:
            raise ToleranceNotReachedError("landmark", job.tol, [f"{slots} slots: {error:.2g} on the trial rows"])
        return Answer(landmarks(job.query).mean, slots)

    n, queries = len(job.key), len(job.query)
    fit = 2 * slots * rows * min(slots, rows) / GRAM_FLOPS
    pairs = SLOT * (rows * n + slots * queries) + fit + 16 * slots * slots
    return Option("landmark", pairs, predicted, f"{slots} landmarks fitted on {rows} exact rows", run)
