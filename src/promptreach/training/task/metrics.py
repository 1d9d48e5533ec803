"""The metrics as scikit-learn and scipy define them, and those of written answers, on rows that may count several times
or not at all.

A metric is computed for many weightings of the same rows at once: for weights of one it is the score, for the counts of
rows drawn with replacement its bootstrap. A row that has a weight of its own counts that much more in each.
"""

from collections.abc import Callable, Mapping
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from promptreach.training.task.metric_names import TEXT_METRICS, Metric, ScoreMetric
from promptreach.training.task.objective import Outcomes
from promptreach.training.task.text_metrics import combined

RESAMPLES = 1000
"""Drawings of rows that a bootstrap takes."""
_MOST_ENTRIES = 2**24


def score(metric: Metric, outcomes: Outcomes, positive: int = 1) -> float:
    """The score on all rows: nats per answer for ``"loss"``, otherwise larger is better.

    Args:
        metric: its name.
        outcomes: on the rows; all but loss and accuracy need what each row was given, and what is true.
        positive: the label that `BINARY` metrics are about.
    """
    if metric == "loss":
        return outcomes.mean_loss
    if metric == "accuracy":
        return outcomes.accuracy
    return float(weighted(metric, outcomes, torch.ones(1, len(outcomes.loss), dtype=torch.float64), positive)[0])


def is_known(metric: Metric, outcomes: Outcomes) -> bool:
    """Whether the outcomes hold what a metric is computed from: a classifier that was brought has no score of its
    second label, for example."""
    if metric in TEXT_METRICS:
        return outcomes.judged is not None
    needed = {"average_precision": outcomes.score, "entity_f1": outcomes.parts, "accuracy": outcomes.right}
    return needed.get(metric, outcomes.given) is not None


def weighted(
    metric: ScoreMetric, outcomes: Outcomes, weights: Float[Tensor, "draws rows"], positive: int = 1
) -> Float[Tensor, " draws"]:
    """The score for each weighting of the rows; a ratio whose denominator is zero is zero, as in scikit-learn."""
    if outcomes.weight is not None:
        weights = weights * outcomes.weight.double()
    if metric in TEXT_METRICS:
        assert outcomes.judged is not None
        return combined(metric, outcomes.judged, weights)
    if metric == "average_precision":
        return _average_precision(outcomes, weights, positive)
    if metric == "entity_f1":
        right, told, true = (weights @ cast("Tensor", outcomes.parts).double()).T
        return _ratio(2 * right, told + true)
    if metric in _OF_NUMBERS:
        true, given = (cast("Tensor", part).double() for part in (outcomes.true, outcomes.given))
        return _OF_NUMBERS[metric](true, given, weights)
    if outcomes.true is not None and outcomes.true.dim() == 2:
        return _of_sets(metric, outcomes.true.double(), cast("Tensor", outcomes.given).double(), weights)
    true, given = _classes(outcomes)
    classes = int(torch.stack([true, given]).max()) + 1
    truths, givens = (torch.nn.functional.one_hot(part, classes).double() for part in (true, given))
    counts = _Counts(weights @ (truths * givens), weights @ truths, weights @ givens, positive)
    return _OF_COUNTS[metric](counts)


def bootstrap(
    metric: ScoreMetric, first: Outcomes, second: Outcomes | None = None, positive: int = 1, seed: int = 0
) -> Float[Tensor, " draws"]:
    """The gain of `first` over `second` in `RESAMPLES` drawings of the rows, the same rows for both; of one alone its
    score."""
    rows = len(first.loss)
    generator = torch.Generator().manual_seed(seed)
    at_once = max(1, min(RESAMPLES, _MOST_ENTRIES // rows))
    found = []
    for start in range(0, RESAMPLES, at_once):
        draws = min(at_once, RESAMPLES - start)
        drawn = torch.randint(rows, (draws, rows), generator=generator)
        weights = torch.zeros(draws, rows, dtype=torch.float64).scatter_add_(
            1, drawn, torch.ones(draws, rows, dtype=torch.float64)
        )
        gain = weighted(metric, first, weights, positive)
        found.append(gain if second is None else gain - weighted(metric, second, weights, positive))
    return torch.cat(found)


class _Counts:
    """Weighted counts by class, each (draws, classes): right, true, and given."""

    def __init__(self, right: Tensor, true: Tensor, given: Tensor, positive: int) -> None:
        self.right, self.true, self.given, self.positive = right, true, given, positive

    @property
    def total(self) -> Tensor:
        return self.true.sum(1)

    @property
    def f1(self) -> Tensor:
        """Of every class."""
        return _ratio(2 * self.right, self.true + self.given)


def _accuracy(counts: _Counts) -> Tensor:
    return _ratio(counts.right.sum(1), counts.total)


def _balanced_accuracy(counts: _Counts) -> Tensor:
    """The mean recall of the classes that occur."""
    return _ratio(_ratio(counts.right, counts.true).sum(1), (counts.true > 0).sum(1).double())


def _macro_f1(counts: _Counts) -> Tensor:
    """The mean F1 of the classes that occur or are given."""
    there = ((counts.true > 0) | (counts.given > 0)).double()
    return _ratio((counts.f1 * there).sum(1), there.sum(1))


def _f1(counts: _Counts) -> Tensor:
    inside = counts.positive < counts.f1.shape[1]
    return counts.f1[:, counts.positive] if inside else torch.zeros_like(counts.total)


def _mcc(counts: _Counts) -> Tensor:
    total, right = counts.total, counts.right.sum(1)
    spread = [total**2 - (part**2).sum(1) for part in (counts.true, counts.given)]
    return _ratio(right * total - (counts.true * counts.given).sum(1), (spread[0] * spread[1]).sqrt())


_OF_COUNTS: Mapping[str, Callable[[_Counts], Tensor]] = {
    "accuracy": _accuracy,
    "balanced_accuracy": _balanced_accuracy,
    "macro_f1": _macro_f1,
    "f1": _f1,
    "mcc": _mcc,
}


def _of_sets(metric: str, true: Tensor, given: Tensor, weights: Tensor) -> Tensor:
    """F1 of several labels a row: of all of them together, or meaned over every label; the share of whole sets."""
    if metric == "accuracy":
        return _ratio(weights @ (true == given).all(1).double(), weights.sum(1))
    right, present, told = (weights @ part for part in (true * given, true, given))
    if metric == "micro_f1":
        return _ratio(2 * right.sum(1), (present + told).sum(1))
    return _ratio(2 * right, present + told).mean(1)


def _moments(true: Tensor, given: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The sums of squares of either around its mean, and of their products, for each weighting; (draws) each.

    Of rows or, where every weighting has values of its own, of (draws, rows).
    """
    total = weights.sum(1, keepdim=True).clamp(min=1e-300)
    parts = [part.expand_as(weights) for part in (true, given)]
    one, two = (part - (weights * part).sum(1, keepdim=True) / total for part in parts)
    return (weights * one * one).sum(1), (weights * two * two).sum(1), (weights * one * two).sum(1)


def _pearson(true: Tensor, given: Tensor, weights: Tensor) -> Tensor:
    """Zero where either is the same in every row."""
    one, two, both = _moments(true, given, weights)
    return _ratio(both, one.sqrt() * two.sqrt())


def _spearman(true: Tensor, given: Tensor, weights: Tensor) -> Tensor:
    """Pearson's correlation of the ranks among the rows that are drawn; equal ones have their mean rank."""
    return _pearson(_ranks(true, weights), _ranks(given, weights), weights)


def _ranks(values: Tensor, weights: Tensor) -> Tensor:
    """The mean rank of each row's value in each drawing, (draws, rows)."""
    distinct, place = torch.unique(values, return_inverse=True)
    counts = torch.zeros(len(weights), len(distinct), dtype=weights.dtype).index_add_(1, place, weights)
    return (counts.cumsum(1) - counts / 2)[:, place]


def _r2(true: Tensor, given: Tensor, weights: Tensor) -> Tensor:
    """One less the squared error over the squared distance from the mean; zero where every number is the same."""
    spread = _moments(true, given, weights)[0]
    error = (weights * (true - given).square()).sum(1)
    return torch.where(spread > 0, 1 - _ratio(error, spread), 0.0)


_OF_NUMBERS: Mapping[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "pearson": _pearson,
    "spearman": _spearman,
    "r2": _r2,
}


def _average_precision(outcomes: Outcomes, weights: Tensor, positive: int) -> Tensor:
    """The precision at every score, weighted by the recall that is gained there; equal scores stand together."""
    assert outcomes.score is not None
    true, _ = _classes(outcomes)
    scores = outcomes.score if positive == 1 else -outcomes.score
    order = scores.argsort(descending=True, stable=True)
    ordered = scores[order]
    weight = weights[:, order]
    right = (weight * (true[order] == positive).double()).cumsum(1)
    taken = weight.cumsum(1)
    ends = torch.cat([(ordered[1:] != ordered[:-1]).nonzero()[:, 0], torch.tensor([len(ordered) - 1])])
    right, precision = right[:, ends], _ratio(right[:, ends], taken[:, ends])
    recall = _ratio(right, right[:, -1:].expand_as(right))
    gained = recall.diff(dim=1, prepend=torch.zeros(len(recall), 1, dtype=torch.float64))
    return (gained * precision).sum(1)


def _classes(outcomes: Outcomes) -> tuple[Tensor, Tensor]:
    return cast("Tensor", outcomes.true).long(), cast("Tensor", outcomes.given).long()


def _ratio(above: Tensor, below: Tensor) -> Tensor:
    """Zero where the denominator is."""
    return torch.where(below > 0, above / torch.where(below > 0, below, 1.0), 0.0)
