"""`auto`: for every key/value head, the cheapest method that should keep to the tolerance; exact attention otherwise.

Costs are predicted in query-key pairs of exact attention, from sizes alone, so the same call always takes the same way.
Errors are predicted from pilots, which are ordered so that a head that no method suits has cost little by the time that
is known:

1. The scores of a few queries and keys say which degree the polynomial method needs.
2. The smallest landmark fit predicts what larger ones would reach.
3. Only if landmarks do not promise to be cheaper than any clustering are the rows grouped, and a few blocks tried.

What a pilot computed is used again by the method that it chose. A method whose certificate then misses the tolerance is
given up for the next; exact attention is always the last.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from promptreach.fast_attention.answers import SECONDS_PER_PAIR, Answer, Option, certified
from promptreach.fast_attention.job import HeadJob
from promptreach.fast_attention.polynomial.features import rank
from promptreach.fast_attention.polynomial.preprocess import prepare
from promptreach.fast_attention.problem import HALF, AttentionProblem, Head
from promptreach.fast_attention.report import AttentionReport, Candidate, ToleranceNotReachedError, of_heads
from promptreach.fast_attention.sampled import clustered, landmark

MethodFunction = Callable[[AttentionProblem, float, str, torch.Generator, int], tuple[Tensor, AttentionReport]]

LEAST_PAIRS = 2**22
"""Queries times keys of a head below which exact attention is over before a plan is made."""

LEAST_ROWS = 2**14
"""Queries and keys below which the pilots of landmarks and clusters cost more than a tenth of exact attention."""

MOST_TRIED = 3
"""Options with held-out rows that a head tries, at most; they share its part of the confidence."""

AT_RISK = 0.1
"""The part of exact attention's cost that landmark fits may take before a trial shows whether they will do: what a head
that no landmarks suit loses by having tried."""

WORTH = 0.6
"""Predicted cost over that of exact attention, above which nothing is tried."""

PREFERRED = 2.0
"""Landmarks that cost at most so many times the cheapest clustering are tried without looking for a better one: looking
costs as much."""

SCORE_SAMPLE = 512
DEVIATIONS = 30.0
"""Ranges of a value in the deviation of the outputs, roughly, to compare tolerances in the two units."""


def automatic(
    problem: AttentionProblem,
    tol: float,
    relative_to: str,
    generator: torch.Generator,
    workspace: int,
    methods: Mapping[str, MethodFunction],
) -> tuple[Tensor, AttentionReport]:
    """Every key/value head by its own cheapest method, and the report of all heads.

    Args:
        methods: "exact" and "polynomial" at least; the pilots bring landmarks and clusters along.
    """
    if any(item.dtype in HALF for item in (problem.query, problem.key, problem.value)) or _small(problem):
        output, report = methods["exact"](problem, tol, relative_to, generator, workspace)
        reason = "below the size, or in a precision, where a plan could pay"
        return output, replace(report, reasons=(reason, *report.reasons))
    parts = list(_one_by_one(problem))
    solved = [_solve(part, tol, relative_to, generator, workspace, methods, len(parts)) for part in parts]
    output = torch.stack([part for part, _ in solved]).reshape(*problem.query.shape[:-1], -1)
    return output, of_heads([report for _, report in solved])


def _solve(
    problem: AttentionProblem,
    tol: float,
    relative_to: str,
    generator: torch.Generator,
    workspace: int,
    methods: Mapping[str, MethodFunction],
    heads: int,
) -> tuple[Tensor, AttentionReport]:
    """One key/value head: the options in the order of the plan, each tried until one holds."""
    head = next(problem.heads())
    pairs = float(len(head.rows) * len(head.key))
    considered: list[Candidate] = []
    given_up: list[str] = []
    stages = _stages(head, relative_to, tol, generator, workspace)
    for option, job in stages:
        considered.append(option.candidate)
        if option.pairs > WORTH * pairs:
            continue
        try:
            if job is None:
                output, report = methods[option.method](problem, tol, relative_to, generator, workspace)
            else:
                output, report = certified(option, job, MOST_TRIED * heads)
        except ToleranceNotReachedError as failure:
            given_up.append(f"{option.method} was given up: {'; '.join(failure.reasons)}")
            continue
        output = output.to(problem.output_dtype).reshape(*problem.query.shape[:-1], -1)
        reasons = (*given_up, option.reason, *report.reasons)
        return output, replace(report, reasons=reasons, plan=tuple(considered))
    exact = Candidate("exact", pairs * SECONDS_PER_PAIR, 0.0, "no cheaper method promised to keep to the tolerance")
    output, report = methods["exact"](problem, tol, relative_to, generator, workspace)
    return output, replace(report, reasons=(*given_up, exact.reason), plan=(*considered, exact))


def _stages(
    head: Head, relative_to: str, tol: float, generator: torch.Generator, workspace: int
) -> Iterator[tuple[Option, HeadJob | None]]:
    """Options with the job that their pilot worked on, cheapest pilots first; later ones run only if they are asked
    for."""
    queries, n = len(head.rows), len(head.key)
    option = polynomial_option(head, tol if relative_to == "range" else tol / DEVIATIONS)
    sampled = head.seen is None and min(queries, n) >= LEAST_ROWS
    cheap = PREFERRED * clustered.least_pairs(queries, n) if sampled else math.inf
    if option is not None and option.pairs <= cheap:
        yield option, None
    if not sampled:
        return
    job = HeadJob.of(head, relative_to, tol, generator)
    smooth = landmark.options(job, workspace, AT_RISK * queries * n)
    for found in smooth:
        if found.pairs <= cheap:
            yield found, job
    others = [found for found in smooth if found.pairs > cheap]
    limit = min(WORTH * queries * n, *(found.pairs for found in others), math.inf)
    for found in [*clustered.options(job, workspace, limit), *others][:1]:
        yield found, job
    if option is not None and option.pairs > cheap:
        yield option, None


def polynomial_option(head: Head, tol: float) -> Option | None:
    """The polynomial method as a few queries and keys let it expect; None where one degree more than that, or a degree
    above 12, would not pay.

    After the free moves, the Taylor remainder's first term, its mean over the keys for the worst sampled query, says
    which degree. The method itself proves its error, on all rows, and may need the next degree; here only the cost is
    predicted.
    """
    step_q, step_k = (max(1, len(rows) // SCORE_SAMPLE) for rows in (head.rows, head.key))
    sample = Head(
        head.rows.detach()[::step_q][None], head.key.detach()[::step_k], head.value.detach()[::step_k], head.scale
    )
    prepared = prepare(sample, tol / 10, 2**26)
    scores = (prepared.query.mT @ prepared.key).abs().double()
    degree = next(
        (g for g in range(13) if float((scores ** (g + 1)).mean(dim=1).max()) / math.factorial(g + 1) <= tol), None
    )
    if degree is None:
        return None
    queries, n = len(head.rows), len(head.key)
    features, next_features = (rank(len(prepared.key), order) for order in (degree, degree + 1))
    # A monomial feature of a query or a key costs about one exact pair of head size 32.
    if next_features * (queries + n) > WORTH * queries * n:
        return None
    pairs = float(features * (queries + n))
    reason = f"sampled scores up to {float(scores.max()):.2g} nats ask for about degree {degree}, {features} features"

    def run() -> Answer:
        raise AssertionError("the polynomial method is run by name")

    return Option("polynomial", pairs, tol, reason, run)


def _small(problem: AttentionProblem) -> bool:
    group = problem.num_heads // problem.num_kv_heads
    return group * problem.query.shape[-2] * problem.key.shape[-2] < LEAST_PAIRS


def _one_by_one(problem: AttentionProblem) -> Iterator[AttentionProblem]:
    """Every key/value head of every batch row as a problem of its own, in the order of `AttentionProblem.heads`."""
    count, n = problem.num_kv_heads, problem.key.shape[-2]
    query = problem.query.reshape(-1, count, problem.num_heads // count, *problem.query.shape[-2:])
    rows = len(query)
    key, value = (
        item.expand(*problem.batch, count, *item.shape[-2:]).reshape(rows, count, 1, *item.shape[-2:])
        for item in (problem.key, problem.value)
    )
    mask = None if problem.mask is None else problem.mask.expand(*problem.batch, n).reshape(rows, n)
    for row in range(rows):
        for head in range(count):
            yield AttentionProblem(
                query[row, head],
                key[row, head],
                value[row, head],
                problem.causal,
                None if mask is None else mask[row],
                problem.scale,
            )
