"""The scores of an answer that was found in a context, as the evaluation of SQuAD defines them.

Texts are compared without case, punctuation, English articles and runs of white space. Several answers may be right,
and the best counts; where none is, only no answer is.

Reference: Rajpurkar et al., ACL 2018, "Know What You Don't Know: Unanswerable Questions for SQuAD".
"""

import re
import string
from collections import Counter
from collections.abc import Sequence

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_UNPUNCTUATED = str.maketrans("", "", string.punctuation)


def plain_words(text: str) -> list[str]:
    """The words of a text that are compared."""
    return _ARTICLES.sub(" ", text.lower().translate(_UNPUNCTUATED)).split()


def span_scores(given: str, answers: Sequence[str]) -> tuple[float, float]:
    """Whether an answer is one of the right ones, 0 or 1, and its best F1 over shared words with any of them.

    Args:
        given: the answer; empty for none.
        answers: the right ones; none where only no answer is right.
    """
    own = plain_words(given)
    right = [words for answer in answers if (words := plain_words(answer))] or [[]]
    return float(own in right), max(_f1(own, other) for other in right)


def _f1(one: Sequence[str], other: Sequence[str]) -> float:
    if not one or not other:
        return float(not one and not other)
    common = (Counter(one) & Counter(other)).total()
    # Of precision and recall as the evaluation has it, to its last bit.
    precision, recall = common / len(one), common / len(other)
    return 2 * precision * recall / (precision + recall) if common else 0.0
