"""Methods that are judged on held-out rows: an estimate of all outputs, certified head by head."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from jaxtyping import Float, Int
from torch import Tensor

from promptreach.certificate import Certificate
from promptreach.fast_attention._method import HeadContext, Method, Plan, Result
from promptreach.fast_attention.measure import value_range
from promptreach.fast_attention.problem import AttentionProblem
from promptreach.fast_attention.report import CONFIDENCE, AttentionReport, ToleranceNotReachedError, of_heads
from promptreach.fast_attention.sampled.holdout import certify
from promptreach.fast_attention.tolerance import BUDGET, Request
from promptreach.rounding import shown_bound

LOOKS = 3
"""Certificates that one plan may ask for; they share its part of the confidence."""


@dataclass(frozen=True, eq=False)
class Estimate:
    """The outputs of all rows of one head, before a certificate.

    Attributes:
        output: (rows, value_dim).
        rank: slots a query attended to.
        outliers: all rows, first those that the estimate knows least of.
        exact: how many of these are computed exactly at once, and how many more when the first certificate misses.
    """

    output: Float[Tensor, "rows value_dim"]
    rank: int
    outliers: Int[Tensor, " rows"]
    exact: tuple[int, int]


class SampledMethod(Method):
    """Methods whose error is MEASURED on held-out exact rows, with a confidence.

    Deterministic for a generator's state. `run` raises ToleranceNotReachedError for fewer than 1,024 queries or keys (a
    causal head: where no block of it has 4,096 of both), and when nothing that is worth its cost keeps to the
    tolerance.
    """

    def run(self, problem: AttentionProblem, request: Request) -> Result:
        """Every head by its own plan; the confidence is shared out over the heads, so that all certificates hold."""
        results = [self._run_head(HeadContext(part, request, problem.num_parts)) for part in problem.parts()]
        output = problem.assemble([result.output for result in results])
        return Result(output, of_heads([result.report for result in results]))

    def _run_head(self, context: HeadContext) -> Result:
        tol = context.request.tol
        plan = self.plan(context)
        if plan is None:
            reason = "the pilot predicts no number of slots that is worth its cost"
            raise ToleranceNotReachedError(self.name, tol, [reason])
        output, report = plan.run()
        return Result(output, replace(report, reasons=(plan.reason,)))

    def _plan(
        self, context: HeadContext, pairs: float, error: float, reason: str, estimate: Callable[[], Estimate]
    ) -> Plan:
        """The plan to certify what `estimate` returns."""
        return Plan(self.name, pairs, error, reason, lambda: _certified(self.name, reason, estimate(), context))


def _certified(method: str, reason: str, estimate: Estimate, context: HeadContext) -> Result:
    """The estimate with its certificate, which keeps to the tolerance.

    A certificate that just misses is made once more from more rows, where these say it with less to spare (a largest
    error they only raise), and then with more outlier rows exact: either costs little beside giving the plan up. What
    is reported is chosen among these looks, so it holds with the confidence that all have together.

    Raises:
        ToleranceNotReachedError: when the held-out rows say that it does not.
    """
    head, request = context.sampled, context.request
    spread = value_range(head.value.detach())
    at_once, more = estimate.exact
    output = head.with_exact_rows(estimate.output, estimate.outliers[:at_once])
    values: list[str] = []

    def look() -> Certificate:
        looks = LOOKS * context.certificates
        certificate = certify(output.detach()[rows], exact, request.relative_to, spread, CONFIDENCE, looks)
        values.append(shown_bound(certificate.value, certificate.side))
        return certificate

    rows, exact = head.held, head.exact(head.held)
    certificate = look()
    if request.tol < certificate.value <= BUDGET.near_miss * request.tol:
        if request.relative_to == "deviation":
            rows, exact = head.more_held, head.exact(head.more_held)
            certificate = look()
        if certificate.value > request.tol:
            output = head.with_exact_rows(output, estimate.outliers[at_once : at_once + more])
            certificate = look()
    if certificate.value <= request.tol:
        report = AttentionReport(method, certificate, rank=estimate.rank)
        return Result(context.problem.assemble([output.view(*context.head.query.shape[:2], -1)]), report)
    failure = f"{reason}: {' and then '.join(values)} on the held-out rows"
    raise ToleranceNotReachedError(method, request.tol, [failure])
