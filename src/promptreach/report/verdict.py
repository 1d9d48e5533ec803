"""The six verdicts and the reasons for one: words that training, reports and commands share."""

import enum
from dataclasses import dataclass

from promptreach.certificate import Evidence


class TuningVerdict(enum.StrEnum):
    """Expressivity, optimisation, or data. The comment is what a person should hear."""

    FITS = "FITS"
    """A soft prompt does the task as well as its rivals."""
    OPTIMISER = "OPTIMISER"
    """A prompt fits; the usual training does not find it."""
    MORE_TOKENS = "MORE_TOKENS"
    """Capacity binds; more virtual tokens are needed."""
    FORM = "FORM"
    """No number of tokens closes the gap; another form (a prefix, LoRA) does."""
    DATA = "DATA"
    """No method can: the labels conflict or nothing can be learnt from them."""
    UNDECIDED = "UNDECIDED"
    """The evidence does not decide; the report says what would."""


@dataclass(frozen=True)
class Reason:
    """One reason for the verdict, with how sure it is and which finding it rests on."""

    text: str
    evidence: Evidence
    check: str
