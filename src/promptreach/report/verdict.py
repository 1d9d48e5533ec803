"""The six verdicts, how each is shown and which exit status it has, and the reasons for one."""

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


@dataclass(frozen=True)
class VerdictWords:
    """How a verdict is shown.

    Attributes:
        name: the verdict in a few words.
        tone: ``good``, ``caution``, ``bad`` or ``unsure``: the colour, which never stands without the name.
        terminal: the tone as a rich style.
    """

    name: str
    tone: str
    terminal: str


VERDICT_WORDS = {
    TuningVerdict.FITS: VerdictWords("A prompt or prefix fits", "good", "bold green"),
    TuningVerdict.OPTIMISER: VerdictWords("A prompt fits, the training misses it", "caution", "bold yellow"),
    TuningVerdict.MORE_TOKENS: VerdictWords("More tokens are needed", "caution", "bold yellow"),
    TuningVerdict.FORM: VerdictWords("A soft prompt is the wrong form", "bad", "bold red"),
    TuningVerdict.DATA: VerdictWords("The data stands in the way", "bad", "bold red"),
    TuningVerdict.UNDECIDED: VerdictWords("Undecided", "unsure", "bold magenta"),
}

EXIT_STATUS = {
    TuningVerdict.FITS: 0,
    TuningVerdict.OPTIMISER: 1,
    TuningVerdict.MORE_TOKENS: 1,
    TuningVerdict.FORM: 1,
    TuningVerdict.DATA: 1,
    TuningVerdict.UNDECIDED: 3,
}
"""0 what was trained fits, 1 it does not (use what the report recommends), 3 undecided; 2 is kept for wrong calls."""
