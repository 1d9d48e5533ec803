"""The words that every number is said in: kinds of evidence, sides, verdicts, states of a re-check, and statements.

`Evidence` says how sure a number is, `Side` which way it bounds, `Verdict` answers a yes-or-no question. A `Statement`
is all that a certificate says beside its number: one function for each kind of certificate makes it from the witness,
and both who certifies and who re-checks call that function.
"""

import enum
from collections.abc import Iterable
from dataclasses import dataclass

from promptreach.errors import SideMismatchError


class Evidence(enum.Enum):
    """What kind of knowledge a number is, from the strongest to none."""

    PROVED = "PROVED"
    """A theorem applies and every hypothesis was checked on these very tensors."""
    MEASURED = "MEASURED"
    """Observed on this model and data, on a stated sample."""
    PREDICTED = "PREDICTED"
    """An estimate from a model of training."""
    UNKNOWN = "UNKNOWN"
    """Not decided, with the reason."""

    @staticmethod
    def weakest(kinds: Iterable["Evidence"]) -> "Evidence":
        """The weakest of `kinds`: what a conclusion drawn from all of them is worth."""
        order = list(Evidence)
        return max(kinds, key=order.index)


class Side(enum.Enum):
    """Which way a number bounds the true value."""

    LOWER = "LOWER"
    UPPER = "UPPER"
    EXACT = "EXACT"

    @staticmethod
    def combine(sides: Iterable["Side"]) -> "Side":
        """The side of a monotone increasing combination (a sum, a maximum) of numbers with these sides.

        Raises:
            SideMismatchError: when both LOWER and UPPER occur; the result would bound nothing.
        """
        seen = set(sides)
        if {Side.LOWER, Side.UPPER} <= seen:
            raise SideMismatchError("a LOWER and an UPPER bound cannot be combined: the result would bound nothing")
        if Side.LOWER in seen:
            return Side.LOWER
        return Side.UPPER if Side.UPPER in seen else Side.EXACT


class Verdict(enum.Enum):
    """The answer to "can a prompt do this?". UNKNOWN is an answer: it always comes with a reason."""

    POSSIBLE = "POSSIBLE"
    IMPOSSIBLE = "IMPOSSIBLE"
    UNKNOWN = "UNKNOWN"


class Independence(enum.Enum):
    """How far a second code path stands from the first: what an agreement of the two can rule out."""

    FULL = "full"
    """Another derivation in code of its own: it catches a wrong formula as well as a wrong line."""
    ARITHMETIC = "arithmetic"
    """The same formula in other number types or by other routines: it catches roundings, not a wrong formula."""
    SHARED = "shared"
    """Parts of the first path's code run again, or build again what is looked at: it catches slips in the rest."""


class Recheck(enum.Enum):
    """Whether a certificate's second code path was run, and what came of it."""

    HELD = "re-checked"
    """It was run, and the witness supports the claim."""
    OPEN = "can be re-checked"
    """Second path and witness are there; it was not run."""
    IMPOSSIBLE = "cannot be re-checked"
    """There is no second path, the witness is not kept, or this platform lacks what the path needs."""
    FAILED = "re-check failed"
    """It was run, and the witness does not support the claim: nothing is proved."""


@dataclass(frozen=True)
class Assumption:
    """One hypothesis of a claim.

    Attributes:
        text: the hypothesis in plain words.
        checked: True when the program checked it on these very tensors; False when the caller declared it.
        detail: how it was checked, or who declared it.
    """

    text: str
    checked: bool
    detail: str = ""


@dataclass(frozen=True)
class Statement:
    """What a certificate says beside its number; the fields are those of `Certificate`."""

    claim: str
    side: Side
    theorem: str = ""
    assumptions: tuple[Assumption, ...] = ()
    evidence: Evidence = Evidence.PROVED
    sample: str = ""
    confidence: float | None = None
