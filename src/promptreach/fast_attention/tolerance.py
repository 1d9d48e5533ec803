"""Request for attention to a tolerance, and the budget that says which part of the tolerance each step may use.

A method gets the whole tolerance in its `Request`; whatever it sets aside on the way is a named share in `BUDGET`.
Shares steer choices. None of them proves anything: the certificate is computed afterwards from what was done, and an
answer whose certificate exceeds the tolerance is not returned.
"""

from dataclasses import dataclass

import torch

from promptreach.errors import Fault
from promptreach.fast_attention.measure import RELATIVE_TO

LEAST_WORKSPACE = 2**20


@dataclass(frozen=True, eq=False)
class Request:
    """The demand on a method, beside the attention problem itself.

    Attributes:
        tol: the largest error wanted.
        relative_to: its unit, "range" or "deviation".
        generator: the only source of randomness.
        workspace: bytes that may be held at once beyond inputs and output.
    """

    tol: float
    relative_to: str
    generator: torch.Generator
    workspace: int = 2**28

    @property
    def trial_tol(self) -> float:
        """The error that a trial on sampled rows should show."""
        return self.tol * (BUDGET.trial_range if self.relative_to == "range" else BUDGET.trial_deviation)

    @property
    def as_range_error(self) -> float:
        """The tolerance as a range error, roughly, to predict costs with before any output is known."""
        return self.tol if self.relative_to == "range" else self.tol / BUDGET.ranges_in_deviation


@dataclass(frozen=True)
class ToleranceBudget:
    """Shares of the tolerance by the step that may use them.

    Polynomial method, on the way to a range error. Known moments, tail, rounding and dropped coordinates add up to the
    certified error; `tail` and `read` are about sums that leave the rest to what is not in them.

    Sampled methods. A trial on some rows has to show less than the tolerance, since the certificate is an upper bound.
    """

    dropped: float = 1 / 8
    """Nats that coordinates without weight may move a score by; an output entry moves by at most half of that."""
    rounding: float = 1 / 3
    """Rounding; above it the next wider dtype is used. Large enough that float32 serves ordinary tolerances."""
    tail: float = 0.8
    """The estimated remainder beyond the last degree that keys are summed to, where a further degree is dear."""
    tail_where_cheap: float = 0.1
    """The same where further degrees cost little: known moments then carry the bound, nearer the truth than a tail."""
    read: float = 0.9
    """Remainder, rounding and the moments that queries leave unread, together, for the query that reaches furthest."""
    retry: float = 0.9
    """The part of the tolerance that a next try aims at, when the last error shows how range and deviation compare."""
    retry_at_most: float = 0.5
    """The largest next try over the last one, so that tries end soon."""
    retry_blind: float = 0.1
    """The next try over the last one where no error in the wanted unit could be certified at all."""
    pilot_dropped: float = 1 / 10
    """Nats that coordinates may move a score by in the planner's pilot, which only predicts a degree."""
    ranges_in_deviation: float = 30.0
    """Ranges of a value in the deviation of the outputs, roughly: compares tolerances in the two units in a pilot."""
    trial_range: float = 0.6
    """Largest error of the trial rows: that of the held-out rows, which are more, is further up than a mean is."""
    trial_deviation: float = 0.9
    """Relative error of the trial rows, a mean that the certificate is only a confidence bound above."""
    near_miss: float = 1.5
    """Times the tolerance, up to which a certificate that exceeds it is worth a second look."""


BUDGET = ToleranceBudget()


def request_faults(tol: float, relative_to: str, workspace: int = LEAST_WORKSPACE) -> list[Fault]:
    """Everything that does not fit in the numbers and names of a request."""
    faults = []
    if not 0 < tol < float("inf"):
        faults.append(Fault("tol", repr(tol), "a positive finite number", 'For no error use method="exact"'))
    if relative_to not in RELATIVE_TO:
        faults.append(Fault("relative_to", repr(relative_to), f"one of {', '.join(RELATIVE_TO)}"))
    if workspace < LEAST_WORKSPACE:
        faults.append(Fault("workspace", f"{workspace} bytes", f"at least {LEAST_WORKSPACE}"))
    return faults
