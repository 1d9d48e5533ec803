"""Report of fast attention: the method, its error with the kind of knowledge behind it, and its cost."""

from collections.abc import Sequence
from dataclasses import dataclass

from promptreach.certificate import Certificate, Evidence, Side
from promptreach.checkers import name_of
from promptreach.errors import PromptreachError
from promptreach.fast_attention.measure import recheck_attention, recheck_heads


@dataclass(frozen=True)
class PlanEntry:
    """One way to answer, before it is tried.

    Attributes:
        method: a key of `planner.METHODS`.
        seconds: PREDICTED wall time, fitting and the pilots up to it included, at the speed that two cores of one small
            machine have shown: a constant, so that the same call gives the same plan.
        error: PREDICTED error, in the unit that the tolerance was asked in.
        reason: why it stands where it stands in the plan, as a sentence.
    """

    method: str
    seconds: float
    error: float
    reason: str


@dataclass(frozen=True, eq=False)
class AttentionReport:
    """Report of one call: how its output was computed, and how far off it may be.

    Attributes:
        method: the method that ran.
        error: UPPER, in the unit that was asked for: the range error, or the relative error against the deviation. For
            several heads it is the largest of any head.
        seconds: wall time, planning, fitting and certifying included.
        rank: features or landmarks, the largest over the heads; None where there are none.
        reasons: what was decided on the way, one sentence each.
        plan: the ways that `auto` considered, in its order; empty for a method chosen by name.
    """

    method: str
    error: Certificate
    seconds: float = 0.0
    rank: int | None = None
    reasons: tuple[str, ...] = ()
    plan: tuple[PlanEntry, ...] = ()


CONFIDENCE = 0.95
"""With which all statements about held-out rows in one call hold together."""


def of_heads(reports: Sequence[AttentionReport]) -> AttentionReport:
    """One report of all key/value heads, from a report for each.

    The error is the largest, its evidence the weakest of any head. Certificates from held-out rows share the call's
    confidence, so that together they hold with `CONFIDENCE`. It can be rechecked where every head's can.
    """
    if len(reports) == 1:
        return reports[0]
    errors = [report.error for report in reports]
    worst = max(reports, key=lambda report: report.error.value)
    methods = sorted({report.method for report in reports})
    counts = ", ".join(f"{name} {sum(report.method == name for report in reports)}" for name in methods)
    return AttentionReport(
        method=methods[0] if len(methods) == 1 else "auto",
        error=_error_of(errors, worst.error),
        rank=max((report.rank for report in reports if report.rank is not None), default=None),
        reasons=(f"heads by method: {counts}", *dict.fromkeys(line for report in reports for line in report.reasons)),
        plan=worst.plan,
    )


def _error_of(errors: Sequence[Certificate], worst: Certificate) -> Certificate:
    if {(error.checker, error.evidence) for error in errors} == {(name_of(recheck_attention), Evidence.PROVED)}:
        return Certificate.stated(recheck_heads, worst.value, {"heads": [error.witness for error in errors]})
    kinds: dict[tuple[Evidence, str], list[Certificate]] = {}
    for error in errors:
        kinds.setdefault((error.evidence, error.theorem), []).append(error)
    claims = [
        f"{len(part)} {evidence.value}, of which the largest: {max(part, key=lambda error: error.value).claim}"
        for (evidence, _), part in kinds.items()
    ]
    confidence = CONFIDENCE if any(error.confidence is not None for error in errors) else None
    together = "" if confidence is None else f"with probability {confidence:g} over all held-out rows, "
    return Certificate(
        claim=(
            f"{together}each of the {len(errors)} key/value heads has an error of at most value, in the sense of "
            f"its own claim: {'; '.join(claims)}"
        ),
        value=worst.value,
        side=Side.combine(error.side for error in errors),
        evidence=Evidence.weakest(error.evidence for error in errors),
        assumptions=tuple(dict.fromkeys(item for error in errors for item in error.assumptions)),
        theorem=worst.theorem if len(kinds) == 1 else "",
        sample="; ".join(dict.fromkeys(error.sample for error in errors if error.sample)),
        confidence=confidence,
        reason="; ".join(dict.fromkeys(error.reason for error in errors if error.reason)),
    )


class ToleranceNotReachedError(PromptreachError):
    """A method cannot reach the tolerance on this problem within its workspace; nothing was returned in its place.

    Attributes:
        method: which one.
        tol: what was asked.
        reasons: what stands in the way, one sentence each.
    """

    def __init__(self, method: str, tol: float, reasons: Sequence[str]) -> None:
        self.method, self.tol, self.reasons = method, tol, tuple(reasons)
        remedy = 'method="auto" or method="exact" answers every problem'
        super().__init__(f"{method} cannot reach tol={tol:g} here: {'; '.join(self.reasons)}; {remedy}")
