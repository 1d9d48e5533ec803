"""`auto`: for every key/value head, the cheapest method that should keep to the tolerance; exact attention otherwise.

Costs are predicted in query-key pairs of exact attention, from sizes alone, so the same call always takes the same way.
Errors are predicted from pilots, which are ordered so that a head that no method suits has cost little by the time that
is known:

1. How many directions a few queries and keys have in common says which degrees of the polynomial method pay, and the
   scores in them which degree it needs.
2. The smallest landmark fit predicts what larger ones would reach.
3. Only if landmarks do not promise to be cheaper than any clustering are the rows grouped, and a few blocks tried.

What a pilot costs is charged: to what later pilots and plans may cost, and to every plan's predicted time. Pilots of
landmarks and clusters begin with a part of their rows, and stop where these already say no by a margin.

What a pilot computed is used again by the method that it chose. A method whose certificate then misses the tolerance is
given up for the next; exact attention is always the last.
"""

import math
from collections.abc import Iterator
from dataclasses import replace

from promptreach.fast_attention._method import HeadContext, Method, Plan, Result
from promptreach.fast_attention.exact import ExactMethod
from promptreach.fast_attention.polynomial.method import PolynomialMethod
from promptreach.fast_attention.problem import HALF, AttentionProblem
from promptreach.fast_attention.report import PlanEntry, ToleranceNotReachedError, of_heads
from promptreach.fast_attention.sampled.clustered import ClusteredMethod, least_pairs
from promptreach.fast_attention.sampled.landmark import LandmarkMethod
from promptreach.fast_attention.tolerance import Request

EXACT, POLYNOMIAL, LANDMARK, CLUSTERED = ExactMethod(), PolynomialMethod(), LandmarkMethod(), ClusteredMethod()

METHODS: dict[str, Method] = {method.name: method for method in (EXACT, POLYNOMIAL, LANDMARK, CLUSTERED)}
"""Every method by its name. A new one stands in this table, and in `_plans` if `auto` may choose it."""

LEAST_PAIRS = 2**22
"""Queries times keys of a head below which exact attention is over before a plan is made."""

LEAST_ROWS = 2**14
"""Queries and keys below which the pilots of landmarks and clusters cost more than a tenth of exact attention."""

LEAST_CAUSAL_ROWS = 2**16
"""Queries and keys of a causal head below which landmarks and clusters are not tried. Exact attention costs half there:
at 32,768 both came to 0.95 to 1.15 times its time on one core, at 65,536 to 0.51 and 0.57 times."""

MOST_TRIED = 3
"""Plans with held-out rows that a head tries, at most; they share its part of the confidence."""

AT_RISK = 0.1
"""The part of exact attention's cost that landmark fits may take before a trial shows whether they will do: what a head
that no landmarks suit loses by having tried."""

WORTH = 0.6
"""Predicted cost over that of exact attention, above which nothing is tried."""

PREFERRED = 2.0
"""Landmarks that cost at most so many times the cheapest clustering are tried without looking for a better one: looking
costs as much."""


def automatic(problem: AttentionProblem, request: Request) -> Result:
    """Every key/value head by its own cheapest method, and the report of all heads."""
    group, tensors = problem.num_heads // problem.num_kv_heads, (problem.query, problem.key, problem.value)
    small = group * problem.query.shape[-2] * problem.key.shape[-2] < LEAST_PAIRS
    if small or any(item.dtype in HALF for item in tensors):
        output, report = EXACT.run(problem, request)
        reason = "below the size, or in a precision, where a plan could pay"
        return Result(output, replace(report, reasons=(reason, *report.reasons)))
    certificates = MOST_TRIED * problem.num_parts
    results = [_solve(HeadContext(part, request, certificates)) for part in problem.parts()]
    output = problem.assemble([result.output for result in results])
    return Result(output, of_heads([result.report for result in results]))


def _solve(context: HeadContext) -> Result:
    """One key/value head: the plans in their order, each tried until one holds; exact attention otherwise."""
    considered: list[PlanEntry] = []
    given_up: list[str] = []

    def tried(plan: Plan) -> Result:
        output, report = plan.run()
        return Result(
            output, replace(report, reasons=(*given_up, plan.reason, *report.reasons), plan=tuple(considered))
        )

    for plan in _plans(context):
        considered.append(plan.entry(context.charged))
        if plan.pairs <= _left(context):
            try:
                return tried(plan)
            except ToleranceNotReachedError as failure:
                given_up.append(f"{plan.method} was given up: {'; '.join(failure.reasons)}")
    last = EXACT.plan(context)
    considered.append(last.entry(context.charged))
    return tried(last)


def _left(context: HeadContext) -> float:
    """What a plan may still cost, in pairs, to be worth trying."""
    return WORTH * context.pairs - context.charged


def _plans(context: HeadContext) -> Iterator[Plan]:
    """Plans for a head, cheapest pilots first; a later pilot runs only if its plan is asked for."""
    queries, n = len(context.head.rows), len(context.head.key)
    sampled = min(queries, n) >= (LEAST_CAUSAL_ROWS if context.problem.causal else LEAST_ROWS)
    cheap = PREFERRED * least_pairs(queries, n) if sampled else math.inf
    polynomial = POLYNOMIAL.plan(context, WORTH * context.pairs)
    if polynomial is not None and polynomial.pairs <= cheap:
        yield polynomial
    if sampled:
        landmark = LANDMARK.plan(context, AT_RISK * context.pairs)
        if landmark is not None and landmark.pairs <= cheap:
            yield landmark
            landmark = None
        limit = min(_left(context), math.inf if landmark is None else landmark.pairs)
        found = CLUSTERED.plan(context, limit) or landmark
        if found is not None:
            yield found
        if polynomial is not None and polynomial.pairs > cheap:
            yield polynomial
