"""Certificates: a number that says what kind of knowledge it is, and how to check it again.

Four nouns are kept apart. `Evidence` says how sure a number is, `Side` which way it bounds, `Verdict` answers a
yes-or-no question, and a `Certificate` ties a claim to its number, its hypotheses and a witness.

A certificate is re-checked by a *second* code path: `checker` names a function ``"module:function"`` inside this
package, marked with `rechecks`, that receives the certificate and says whether the witness still supports the claim.
How much such a path is worth differs, so each mark says its `Independence`; whether it was run says `Recheck`.
"""

import dataclasses
import enum
import math
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from promptreach._witness import pack, size_of, unpack
from promptreach.errors import Fault, FormatError, SideMismatchError
from promptreach.formats import REMEDY, check_version

CERTIFICATE_VERSION = 1


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


@dataclass(frozen=True, eq=False)
class Certificate:
    """A claim with its number, how sure it is, and what supports it. Equal are those with the same record.

    Attributes:
        claim: what `value` is, as a sentence with its quantifiers and its unit.
        value: the number (float64). NaN only when `evidence` is UNKNOWN.
        side: LOWER, UPPER or EXACT, for `value` against the true quantity.
        evidence: what kind of knowledge this is.
        assumptions: the hypotheses, each checked or declared.
        theorem: a key of `promptreach.theorems.THEOREMS`, or empty.
        witness: whatever the second code path needs; tensors, numbers, strings, lists and dicts of them.
        checker: ``"module:function"`` inside promptreach that re-checks the witness, or empty.
        sample: for MEASURED and PREDICTED: what was looked at, for example ``"800 held-out rows, 1 seed"``.
        confidence: for MEASURED: the probability with which a statistical claim holds, or None.
        reason: for UNKNOWN: why it could not be decided.
        witness_left_out: why the witness is not kept, where it was taken out; see `without_witness`.
        rechecked: what the second code path said, None where it was not run. Only `checked` and a file say it;
            `dataclasses.replace` forgets it, since it makes another certificate.

    Raises:
        ValueError: for PROVED with a hypothesis that was only declared (put the condition into the claim instead), for
            MEASURED or PREDICTED without a sample, for UNKNOWN without a reason, for a NaN that is not UNKNOWN.
    """

    claim: str
    value: float
    side: Side
    evidence: Evidence
    assumptions: tuple[Assumption, ...] = ()
    theorem: str = ""
    witness: Mapping[str, Any] = field(default_factory=dict)
    checker: str = ""
    sample: str = ""
    confidence: float | None = None
    reason: str = ""
    witness_left_out: str = ""
    rechecked: bool | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", float(self.value))
        object.__setattr__(self, "assumptions", tuple(self.assumptions))
        if not self.claim:
            raise ValueError("a certificate needs a claim")
        if math.isnan(self.value) and self.evidence is not Evidence.UNKNOWN:
            raise ValueError(f"value is NaN but evidence is {self.evidence.value}: {self.claim!r}")
        if self.evidence is Evidence.PROVED:
            declared = [assumption.text for assumption in self.assumptions if not assumption.checked]
            if declared:
                raise ValueError(f"PROVED needs every hypothesis checked; only declared: {declared}")
        if self.evidence in (Evidence.MEASURED, Evidence.PREDICTED) and not self.sample:
            raise ValueError(f"{self.evidence.value} needs the sample it was seen on: {self.claim!r}")
        if self.evidence is Evidence.UNKNOWN and not self.reason:
            raise ValueError(f"UNKNOWN needs a reason: {self.claim!r}")

    def recheck(self) -> bool:
        """True if the second code path still finds the claim supported by the witness.

        A certificate without a checker cannot be re-checked and answers False.
        """
        return bool(_find_checker(self.checker)(self)) if self.checker else False

    @property
    def independence(self) -> Independence | None:
        """How far the second code path stands from the first; None where there is none."""
        facts = self._checker_facts()
        return facts.independence if facts else None

    @property
    def recheck_state(self) -> Recheck:
        """Whether the second code path was run, and what came of it."""
        if self.rechecked is not None:
            return Recheck.HELD if self.rechecked else Recheck.FAILED
        return Recheck.IMPOSSIBLE if self.no_recheck else Recheck.OPEN

    @property
    def no_recheck(self) -> str:
        """Why this certificate cannot be re-checked here, in a few words; empty where it can."""
        facts = self._checker_facts()
        if facts is None:
            return f"there is no checker {self.checker!r}" if self.checker else "there is no second path for it"
        if self.witness_left_out or not self.witness:
            return "the witness is not kept" + (f": {self.witness_left_out}" if self.witness_left_out else "")
        return "this platform has no extended precision" if facts.extended and not _EXTENDED else ""

    @property
    def is_quickly_rechecked(self) -> bool:
        """Whether its second path can be run and takes about a second at most, as the path itself states."""
        facts = self._checker_facts()
        return facts is not None and not self.no_recheck and self.witness_bytes <= facts.quick

    @property
    def witness_bytes(self) -> int:
        """Bytes of the witness: of its tensors and texts, and eight for each number."""
        return size_of(self.witness)

    def checked(self) -> "Certificate":
        """This certificate with what its second code path says now.

        Where that path does not confirm the claim, or breaks on the witness, nothing is proved: the certificate comes
        back as UNKNOWN. One that cannot be re-checked here comes back as it is.
        """
        if self.no_recheck:
            return self
        try:
            held, why = self.recheck(), "its second code path did not confirm it"
        except Exception as error:  # a damaged witness can break a checker in any way
            held, why = False, f"its second code path broke on the witness: {type(error).__name__}: {error}"
        return self._told(held) if held else replace(self, evidence=Evidence.UNKNOWN, reason=why)._told(held)

    def without_witness(self, reason: str) -> "Certificate":
        """This certificate without what its second code path needs, and why; what was re-checked before stays so."""
        return replace(self, witness={}, witness_left_out=reason)._told(self.rechecked)

    def _told(self, rechecked: bool | None) -> "Certificate":
        if rechecked is False and self.evidence is Evidence.PROVED:
            raise ValueError(f"what failed its re-check cannot be PROVED: {self.claim!r}")
        told = replace(self)
        object.__setattr__(told, "rechecked", rechecked)
        return told

    def _checker_facts(self) -> "_Facts | None":
        try:
            return _facts(_find_checker(self.checker)) if self.checker else None
        except ValueError:  # from a file, perhaps of another release
            return None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Certificate) and self.to_dict() == other.to_dict()

    def to_dict(self) -> dict[str, Any]:
        """This certificate as plain JSON types; `from_dict` restores it exactly (float64 survives).

        What stands in "witness" is between `checker` and who made it: it may change without a new version, as long as
        older ones are checked as before. "independence" is told for readers alone; the checker decides it.
        """
        return {
            "version": CERTIFICATE_VERSION,
            "claim": self.claim,
            "value": pack(self.value),
            "side": self.side.value,
            "evidence": self.evidence.value,
            "assumptions": [
                {"text": item.text, "checked": item.checked, "detail": item.detail} for item in self.assumptions
            ],
            "theorem": self.theorem,
            "witness": pack(self.witness),
            "checker": self.checker,
            "sample": self.sample,
            "confidence": self.confidence,
            "reason": self.reason,
            "witness_left_out": self.witness_left_out,
            "recheck": self.recheck_state.value,
            "independence": self.independence.value if self.independence else None,
        }

    @staticmethod
    def from_dict(record: Mapping[str, Any]) -> "Certificate":
        """The certificate that `to_dict` wrote.

        Raises:
            FormatError: for a version that this library does not know, and listing every field that is missing.
        """
        check_version(record, CERTIFICATE_VERSION, "certificate", "version")
        fields = {item.name for item in dataclasses.fields(Certificate)} - {"witness_left_out", "rechecked"}  # newer
        missing = [name for name in sorted(fields) if name not in record]
        if missing:
            raise FormatError([Fault("certificate", f"no {name!r}", "every field", REMEDY) for name in missing])
        return Certificate(
            claim=record["claim"],
            value=unpack(record["value"]),
            side=Side(record["side"]),
            evidence=Evidence(record["evidence"]),
            assumptions=tuple(Assumption(**item) for item in record["assumptions"]),
            theorem=record["theorem"],
            witness=unpack(record["witness"]),
            checker=record["checker"],
            sample=record["sample"],
            confidence=record["confidence"],
            reason=record["reason"],
            witness_left_out=record.get("witness_left_out", ""),
        )._told({Recheck.HELD.value: True, Recheck.FAILED.value: False}.get(record.get("recheck", "")))


Checker = Callable[[Certificate], bool]


class _Facts(NamedTuple):
    """What a mark says of a checker."""

    independence: Independence
    quick: int
    extended: bool


def rechecks(
    independence: Independence, *, quick: int = 65_536, extended: bool = False
) -> Callable[[Checker], Checker]:
    """The mark of a function that `Certificate.recheck` may call.

    Args:
        independence: how far it stands from the code that made the certificate.
        quick: bytes of witness up to which it takes about a second at most on one core; 0 where the witness's size says
            little of the time.
        extended: whether it needs floats of more than 53 bits, which not every platform has.
    """

    def mark(function: Checker) -> Checker:
        function._rechecks_certificates = _Facts(independence, quick, extended)  # type: ignore[attr-defined]
        return function

    return mark


_EXTENDED = np.finfo(np.longdouble).nmant > 52


def _facts(checker: Checker) -> _Facts:
    facts: _Facts = checker._rechecks_certificates  # type: ignore[attr-defined]
    return facts


_MOVED = {
    "compiler.interpolation_recheck": "compiler.programmable.multilinear_recheck",
    "compiler.programmable_recheck": "compiler.programmable.programmable_recheck",
    "compiler.deep": "compiler.papers.deep",
    "compiler.kernel": "compiler.papers.kernel",
    "compiler.single_layer": "compiler.papers.single_layer",
    "fast_attention.recheck": "fast_attention.measure",
    "inference.recheck": "fast_attention.measure",
    "limits.invert": "limits.layers.invert",
    "limits.lengths": "limits.counting.lengths",
    "limits.lipschitz": "limits.layers.lipschitz",
    "limits.measured": "limits.oracle.forward",
    "limits.oracle.measured": "limits.oracle.forward",
    "limits.several": "limits.oracle.several",
    "limits.single_head": "limits.oracle.single_head",
    "limits.tokens": "limits.counting.tokens",
    "tuning.diagnosis.floors": "diagnosis.measures.floors",
    "tuning.memory.counting": "capacity.counting",
}
"""Where the checkers of certificates that were written before a room was rebuilt stand today."""


def _find_checker(name: str) -> Checker:
    """The marked function behind ``"module:function"``, looked up inside this package only.

    A certificate may come from a file, so a name in it must never reach code outside this package or a function
    that was not written to be called this way.
    """
    module_name, _, function_name = name.partition(":")
    if not all(part.isidentifier() for part in [*module_name.split("."), function_name]):
        raise ValueError(f"not a checker name: {name!r}; expected 'module:function' inside promptreach")
    module_name = _MOVED.get(module_name, module_name)
    try:
        function = pkgutil.resolve_name(f"promptreach.{module_name}:{function_name}")
    except (ImportError, AttributeError):
        function = None
    if not isinstance(getattr(function, "_rechecks_certificates", None), _Facts):
        raise ValueError(f"{name!r} is not marked as a checker")
    return function  # type: ignore[no-any-return]
