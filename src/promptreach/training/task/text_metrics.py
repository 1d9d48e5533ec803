"""The metrics of written answers, as their reference implementations define them, from numbers that rows add up to.

Each row leaves a few numbers; sums of them over any weighting of the rows give the score. So a bootstrap needs the
texts once only. Scores lie between 0 and 1.

- ``exact_match``: the share of answers that are the true one, white space at their ends aside.
- ``token_f1``: the mean F1 of their words, as SQuAD 2.0 counts them: without case, punctuation and English articles.
- ``rouge_l``: the mean F-measure of the longest common subsequence of words of Latin letters and digits, without stems,
  as the package rouge-score has it.
- ``chrf``: F2 of character n-grams up to 6, their counts summed over all rows, as sacrebleu's ``corpus_chrf`` has it (a
  hundredth of it).

Reference: Rajpurkar et al., ACL 2018; Lin, 2004, "ROUGE"; Popovic, 2015, "chrF".
"""

import re
import string
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from promptreach.training.task.metric_names import TextMetric

_ORDERS, _RECALL = 6, 2.0  # the longest n-gram of chrF, and how much more its recall counts than its precision
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_OTHER = re.compile(r"[^a-z0-9]+")


def statistics(metric: TextMetric, given: Sequence[str], wanted: Sequence[str]) -> Float[Tensor, "rows numbers"]:
    """The numbers of each row, float64: the true answers are `wanted`."""
    rows = [_OF_ROW[metric](one, other) for one, other in zip(given, wanted, strict=True)]
    return torch.tensor(rows, dtype=torch.float64)


def combined(
    metric: TextMetric, numbers: Float[Tensor, "rows numbers"], weights: Float[Tensor, "draws rows"]
) -> Float[Tensor, " draws"]:
    """The score for each weighting of the rows, from the numbers that `statistics` gives."""
    sums = weights @ numbers.double()
    return _chrf(sums) if metric == "chrf" else sums[:, 0] / weights.sum(1)


def _exact(given: str, wanted: str) -> list[float]:
    return [float(given.strip() == wanted.strip())]


def _token_f1(given: str, wanted: str) -> list[float]:
    one, other = _words(given), _words(wanted)
    common = sum((Counter(one) & Counter(other)).values())
    if not one or not other:
        return [float(one == other)]
    return [2.0 * common / (len(one) + len(other))]


def _words(text: str) -> list[str]:
    plain = "".join(letter for letter in text.lower() if letter not in string.punctuation)
    return _ARTICLES.sub(" ", plain).split()


def _rouge_l(given: str, wanted: str) -> list[float]:
    one, other = (_OTHER.sub(" ", text.lower()).split() for text in (given, wanted))
    if not one or not other:
        return [0.0]
    return [2.0 * _longest_common(one, other) / (len(one) + len(other))]


def _longest_common(one: Sequence[str], other: Sequence[str]) -> int:
    """The length of the longest common subsequence, a whole row of the usual table in the bits of one number.

    Reference: Hyyro, 2004, "Bit-parallel LCS-length computation revisited".
    """
    places: dict[str, int] = {}
    for place, word in enumerate(one):
        places[word] = places.get(word, 0) | 1 << place
    full = (1 << len(one)) - 1
    row = full
    for word in other:
        found = row & places.get(word, 0)
        row = (row + found | row - found) & full
    return len(one) - row.bit_count()


def _chrf_counts(given: str, wanted: str) -> list[float]:
    """For each order the n-grams given, those wanted, and those in both; none is given where none is wanted."""
    one, other = ("".join(text.split()) for text in (given, wanted))
    found: list[int] = []
    for order in range(1, _ORDERS + 1):
        mine, theirs = (Counter(t[at : at + order] for at in range(len(t) - order + 1)) for t in (one, other))
        found += [mine.total() if theirs else 0, theirs.total(), (mine & theirs).total()]
    return [float(count) for count in found]


def _chrf(sums: Float[Tensor, "draws numbers"]) -> Float[Tensor, " draws"]:
    """F2 of the mean precision and the mean recall over the orders that occur on both sides."""
    given, wanted, both = sums.view(len(sums), _ORDERS, 3).unbind(-1)
    there = (given > 0) & (wanted > 0)
    orders = there.sum(1).clamp(min=1)
    precision, recall = (
        torch.where(there, both / torch.where(there, whole, 1.0), 0.0).sum(1) / orders for whole in (given, wanted)
    )
    below = _RECALL**2 * precision + recall
    return torch.where(below > 0, (1 + _RECALL**2) * precision * recall / torch.where(below > 0, below, 1.0), 0.0)


_OF_ROW: Mapping[TextMetric, Callable[[str, str], list[float]]] = {
    "exact_match": _exact,
    "token_f1": _token_f1,
    "rouge_l": _rouge_l,
    "chrf": _chrf_counts,
}
