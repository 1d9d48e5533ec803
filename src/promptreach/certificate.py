"""Certificates: a number that says what kind of knowledge it is, and how to check it again.

A `Certificate` ties a statement to its number and a witness. It is re-checked by a *second* code path: `checker` names
a function ``"module:function"`` inside this package, marked with `rechecks`. What the certificate says is made again
from its witness, by the function that its maker called too, and has to be what stands in it; then the second path looks
whether the witness supports the number. How much such a path is worth differs, so each mark says its `Independence`;
whether it was run says `Recheck`.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from promptreach import checkers
from promptreach.checkers import Checker, rechecks
from promptreach.errors import Fault, FormatError
from promptreach.evidence import Assumption, Evidence, Independence, Recheck, Side, Statement, Verdict
from promptreach.formats import REMEDY, check_version
from promptreach.witness import pack, size_of, unpack

__all__ = [
    "CERTIFICATE_VERSION",
    "Assumption",
    "Certificate",
    "Checker",
    "Evidence",
    "Independence",
    "Recheck",
    "Side",
    "Statement",
    "Verdict",
    "rechecks",
]

CERTIFICATE_VERSION = 1


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
        subject: what the claim is about, as whoever shows it says, in front of the claim; no second path looks at it.
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
    subject: str = ""
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

    @staticmethod
    def stated(checker: Checker, value: float, witness: Mapping[str, Any]) -> "Certificate":
        """The certificate of this number with all that the checker's kind states of such a witness.

        Raises:
            ValueError, KeyError: for a witness that the kind does not accept.
        """
        states = checkers.facts_of(checker).states
        assert states is not None, checker
        said = _said(states(witness))
        return Certificate(value=value, witness=witness, checker=checkers.name_of(checker), **said)

    def recheck(self) -> bool:
        """True if the certificate says what its witness supports, and the second code path confirms its number.

        A certificate without a checker cannot be re-checked and answers False, and so does one whose witness is damaged
        in any way, or larger than the path takes.

        Raises:
            ValueError: for a name that is no checker's.
        """
        return bool(self.checker) and not self._refusal(checkers.find(self.checker))

    def _refusal(self, checker: Checker) -> str:
        """Why the second code path does not confirm this certificate; empty where it does."""
        facts = checkers.facts_of(checker)
        if too_large := self._too_large(facts):
            return too_large
        try:
            stated = {} if facts.states is None else _said(facts.states(self.witness), self.subject)
            changed = [name for name, said in stated.items() if getattr(self, name) != said]
            if changed:
                return f"its {' and its '.join(changed)} are not what its witness supports"
            return "" if checker(self) is True else "its second code path did not confirm it"
        except Exception as error:  # a damaged witness can break a checker in any way
            return f"its second code path broke on the witness: {type(error).__name__}: {error}"

    def _size(self, facts: checkers.Facts) -> int:
        try:
            return facts.size(self.witness)
        except Exception:  # damaged: what it states is refused before its size matters
            return self.witness_bytes

    def _too_large(self, facts: checkers.Facts) -> str:
        size = self._size(facts)
        return f"its witness is of size {size:,}, the second path goes to {facts.most:,}" if size > facts.most else ""

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
        if facts.extended and not checkers.HAS_EXTENDED:
            return "this platform has no extended precision"
        return self._too_large(facts) or self._lacking(facts)

    def _lacking(self, facts: checkers.Facts) -> str:
        """What the witness does not hold, in a few words; empty where it holds what its kind states things from."""
        try:
            if facts.states is not None:
                facts.states(self.witness)
        except KeyError as missing:
            return f"its witness holds no {missing}, perhaps since an older release wrote it"
        except Exception:  # damaged: a re-check says so
            return ""
        return ""

    @property
    def is_quickly_rechecked(self) -> bool:
        """Whether its second path can be run and takes about a second at most, as the path itself states."""
        facts = self._checker_facts()
        return facts is not None and not self.no_recheck and self._size(facts) <= facts.quick

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
        why = self._refusal(checkers.find(self.checker))
        return replace(self, evidence=Evidence.UNKNOWN, reason=why)._told(False) if why else self._told(True)

    def confirmed(self) -> "Certificate":
        """This certificate with what its second code path says where that takes about a second at most; else itself."""
        return self.checked() if self.rechecked is None and self.is_quickly_rechecked else self

    def about(self, subject: str) -> "Certificate":
        """The same certificate with a claim that says what it is about, such as ``"Layer 3"``."""
        whole = f"{subject}: {self.subject}" if self.subject else subject
        return replace(self, subject=whole, claim=f"{subject}: {self.claim}")._told(self.rechecked)

    def without_witness(self, reason: str) -> "Certificate":
        """This certificate without what its second code path needs, and why; what was re-checked before stays so."""
        return replace(self, witness={}, witness_left_out=reason)._told(self.rechecked)

    def _told(self, rechecked: bool | None) -> "Certificate":
        if rechecked is False and self.evidence is Evidence.PROVED:
            raise ValueError(f"what failed its re-check cannot be PROVED: {self.claim!r}")
        told = replace(self)
        object.__setattr__(told, "rechecked", rechecked)
        return told

    def _checker_facts(self) -> checkers.Facts | None:
        try:
            return checkers.facts_of(checkers.find(self.checker)) if self.checker else None
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
            "subject": self.subject,
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
        newer = {"witness_left_out", "subject", "rechecked"}
        fields = {item.name for item in dataclasses.fields(Certificate)} - newer
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
            subject=record.get("subject", ""),
        )._told({Recheck.HELD.value: True, Recheck.FAILED.value: False}.get(record.get("recheck", "")))


def _said(statement: Statement, subject: str = "") -> dict[str, Any]:
    """The fields that a certificate has from its statement, behind the words that name its subject."""
    claim = f"{subject}: {statement.claim}" if subject else statement.claim
    return {**vars(statement), "claim": claim, "reason": ""}
