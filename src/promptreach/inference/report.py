"""What fast attention says of itself: the method, its error with the kind of knowledge behind it, and its cost."""

from collections.abc import Sequence
from dataclasses import dataclass

from promptreach.certificate import Certificate
from promptreach.errors import PromptreachError


@dataclass(frozen=True)
class Candidate:
    """One way to answer, before it is tried.

    Attributes:
        method: a key of `attend.METHODS`.
        seconds: PREDICTED wall time on this machine, fitting included.
        error: PREDICTED error, in the unit that the tolerance was asked in.
        reason: why it stands where it stands in the plan, as a sentence.
    """

    method: str
    seconds: float
    error: float
    reason: str


@dataclass(frozen=True, eq=False)
class AttentionReport:
    """How an output was computed and how far off it may be.

    Attributes:
        method: the method that ran.
        error: UPPER, in the unit that was asked for: the range error, or the relative error against the deviation. For
            several heads it is the largest of any head.
        seconds: wall time, planning, fitting and certifying included.
        rank: features or landmarks, the largest over the heads; None where there are none.
        reasons: what was decided on the way, one sentence each.
        plan: the candidates that `auto` considered, in its order; empty for a method chosen by name.
    """

    method: str
    error: Certificate
    seconds: float = 0.0
    rank: int | None = None
    reasons: tuple[str, ...] = ()
    plan: tuple[Candidate, ...] = ()


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
