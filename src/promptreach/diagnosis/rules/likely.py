"""A first guess at the verdict, before anything is trained: from the data, and from the head alone or the bare model.

Four rules, of which the first that applies speaks; where none does, only training tells, and no verdict is named. None
of them looks at a trained prompt, so that what they say is PREDICTED, save that contradictions are counted.
`FIRST_LOOKS` holds how often each was right over the diagnosis suite (``benchmarks/tuning/first_look.py``).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from promptreach.diagnosis.numbers import BareNumbers, DataNumbers
from promptreach.diagnosis.rules._unlearnable import conflicting_labels, mostly_conflicting
from promptreach.diagnosis.rules.measurements import MARGIN
from promptreach.report.verdict import TuningVerdict
from promptreach.training.task.metric_names import Metric, in_words

_SURELY = 1.645
"""Standard errors above which a score is better than a constant, one-sided at 5 %."""
_OPEN = "open"


@dataclass(frozen=True)
class Likely:
    """The guess of a first look.

    Attributes:
        rule: which of the rules spoke: ``contradictions``, ``few rows``, ``nothing learnt``, ``nothing to gain``, or
            ``open`` where none did.
        verdict: the one that is likely; None where only training tells.
        text: why, as a sentence.
    """

    rule: str
    verdict: TuningVerdict | None
    text: str


@dataclass(frozen=True)
class Record:
    """How often a rule was right: of the first looks at which it spoke, those whose final verdict was the guess."""

    spoke: int
    right: int


FIRST_LOOKS: Mapping[str, Record] = {
    "contradictions": Record(8, 8),
    "few rows": Record(6, 6),
    "nothing learnt": Record(8, 8),
}
"""What came of each rule over the diagnoses of benchmarks/results/first_look.json; a test holds the two together. None
of the suite's tasks is one with nothing to gain."""
OPEN_LOOKS = Record(67, 67)
"""The first looks there at which no rule spoke, and those of them whose verdict was any but DATA."""


def likely(data: DataNumbers, bare: BareNumbers, metric: Metric, judged: int, own: bool = False) -> Likely:
    """The first guess.

    Args:
        data, bare: what was measured of the rows, and of the head alone or the bare model.
        metric: by which methods are compared.
        judged: rows held out.
        own: whether somebody's own training is asked about, which may fall short where nothing else does.
    """
    if conflicting_labels(data) is not None or (metric == "loss" and mostly_conflicting(data)):
        text = f"{data.conflicting_rows:,} of {data.rows:,} rows contradict each other."
        return Likely("contradictions", TuningVerdict.DATA, text)
    margin = MARGIN[metric]
    # Where n rows all agree, the share of those that do not may still be 3 / n (at 95 %).
    if judged * margin < 3:
        text = f"{judged:,} held-out rows cannot settle a difference of {100 * margin:.0f} points."
        return Likely("few rows", TuningVerdict.UNDECIDED, text)
    if metric == "loss":
        return Likely(_OPEN, None, "What a bare model's loss leaves to gain, only training tells.")
    accuracy = metric == "accuracy" or bare.value is None
    value, error = (bare.accuracy, bare.accuracy_error) if accuracy else (bare.value or 0.0, bare.value_error or 0.0)
    name = in_words(metric)
    if bare.constant is not None and value - _SURELY * error <= bare.constant:
        text = f"The head alone has {name} {value:.3f}; the best answer that ignores its input has {bare.constant:.3f}."
        return Likely("nothing learnt", TuningVerdict.DATA, text)
    if value >= 1 - margin and not own:
        text = (
            f"The head alone has {name} {value:.3f} already, so that nothing can be {100 * margin:.0f} points better."
        )
        return Likely("nothing to gain", TuningVerdict.FITS, text)
    return Likely(_OPEN, None, f"The head alone has {name} {value:.3f}; what more can be had, only training tells.")


def record_of(rule: str) -> str:
    """How often first looks of that kind were right over the diagnosis suite, in words."""
    if rule == _OPEN:
        spoke, other = OPEN_LOOKS.spoke, OPEN_LOOKS.spoke - OPEN_LOOKS.right
        return f"Of {spoke} such first looks over the diagnosis suite {other or 'none'} ended in DATA."
    found = FIRST_LOOKS.get(rule)
    if found is None:
        return "No task of the diagnosis suite is of this kind, so that how often this is right was not measured."
    return f"Over the diagnosis suite such a first look was right {found.right} of {found.spoke} times."
