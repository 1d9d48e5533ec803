"""The answer that scores of its two ends give, and what it is worth as the evaluation of SQuAD defines that.

Texts are compared without case, punctuation, English articles and runs of white space. Several answers may be right,
and the best counts; where none is, only no answer is.

Reference: Rajpurkar et al., ACL 2018, "Know What You Don't Know: Unanswerable Questions for SQuAD".
"""

import re
import string
from collections import Counter
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from promptreach.training.task.contexts import NOWHERE

LONGEST = 30
"""Tokens of an answer that is given."""
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


def spans_given(scores: Float[Tensor, "batch seq 2"]) -> Int[Tensor, "batch 2"]:
    """The first and the last token of the best answer of at most `LONGEST` tokens, or twice `NOWHERE` where no answer
    scores higher."""
    length = scores.shape[1]
    both = scores[:, :, None, 0] + scores[:, None, :, 1]
    place = torch.arange(length, device=scores.device)
    apart = place[None, :] - place[:, None]
    fits = (apart >= 0) & (apart < LONGEST) & (place[:, None] != NOWHERE)
    fits[NOWHERE, NOWHERE] = True
    best = torch.where(fits, both, -torch.inf).flatten(1).argmax(1)
    return torch.stack([best // length, best % length], dim=1)
