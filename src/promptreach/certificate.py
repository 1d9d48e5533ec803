"""Certificates: a number that says what kind of knowledge it is, and how to check it again.

Four nouns are kept apart. `Evidence` says how sure a number is, `Side` which way it bounds, `Verdict` answers a
yes-or-no question, and a `Certificate` ties a claim to its number, its hypotheses and a witness.

A certificate is re-checked by a *second* code path: `checker` names a function ``"module:function"`` inside this
package, marked with `rechecks`, that receives the certificate and says whether the witness still supports the claim.
"""

import dataclasses
import enum
import math
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

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
class Certificate:
    """A claim with its number, how sure it is, and what supports it.

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

    def to_dict(self) -> dict[str, Any]:
        """This certificate as plain JSON types; `from_dict` restores it exactly (float64 survives).

        What stands in "witness" is between `checker` and who made it: it may change without a new version, as long as
        older ones are checked as before.
        """
        return {
            "version": CERTIFICATE_VERSION,
            "claim": self.claim,
            "value": _pack(self.value),
            "side": self.side.value,
            "evidence": self.evidence.value,
            "assumptions": [
                {"text": item.text, "checked": item.checked, "detail": item.detail} for item in self.assumptions
            ],
            "theorem": self.theorem,
            "witness": _pack(self.witness),
            "checker": self.checker,
            "sample": self.sample,
            "confidence": self.confidence,
            "reason": self.reason,
        }

    @staticmethod
    def from_dict(record: Mapping[str, Any]) -> "Certificate":
        """The certificate that `to_dict` wrote.

        Raises:
            FormatError: for a version that this library does not know, and listing every field that is missing.
        """
        check_version(record, CERTIFICATE_VERSION, "certificate", "version")
        fields = (item.name for item in dataclasses.fields(Certificate))
        missing = [name for name in fields if name not in record]
        if missing:
            raise FormatError([Fault("certificate", f"no {name!r}", "every field", REMEDY) for name in missing])
        return Certificate(
            claim=record["claim"],
            value=_unpack(record["value"]),
            side=Side(record["side"]),
            evidence=Evidence(record["evidence"]),
            assumptions=tuple(Assumption(**item) for item in record["assumptions"]),
            theorem=record["theorem"],
            witness=_unpack(record["witness"]),
            checker=record["checker"],
            sample=record["sample"],
            confidence=record["confidence"],
            reason=record["reason"],
        )


Checker = Callable[[Certificate], bool]


def rechecks(function: Checker) -> Checker:
    """Mark `function` as one that `Certificate.recheck` may call."""
    function._rechecks_certificates = True  # type: ignore[attr-defined]
    return function


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
    if not getattr(function, "_rechecks_certificates", False):
        raise ValueError(f"{name!r} is not marked as a checker")
    return function  # type: ignore[no-any-return]


def _pack(value: Any) -> Any:
    """`value` in JSON types. Tensors and non-finite floats get a tagged form, since JSON has neither."""
    if isinstance(value, torch.Tensor):
        kind = str(value.dtype).removeprefix("torch.")
        return {"tensor": kind, "shape": list(value.shape), "data": [_pack(x) for x in value.flatten().tolist()]}
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(value)}
    if isinstance(value, Mapping):
        return {"dict": {str(key): _pack(item) for key, item in value.items()}}
    if isinstance(value, (list, tuple)):
        return [_pack(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"a witness cannot hold a {type(value).__name__}")


def _unpack(value: Any) -> Any:
    if isinstance(value, list):
        return [_unpack(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        data = [_unpack(item) for item in value["data"]]
        return torch.tensor(data, dtype=getattr(torch, value["tensor"])).reshape(value["shape"])
    if "float" in value:
        return float(value["float"])
    return {key: _unpack(item) for key, item in value["dict"].items()}
