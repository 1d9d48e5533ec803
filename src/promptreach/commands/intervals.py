"""Metrics with their 90 % intervals over rows, of outcomes that are there row by row."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int
from scipy.stats import binomtest
from scipy.stats import t as student
from torch import Tensor

from promptreach.diagnosis.measures.comparison import MEANS
from promptreach.diagnosis.measures.metrics import bootstrap, score
from promptreach.diagnosis.numbers import LabelMetric
from promptreach.diagnosis.rules.measurements import in_words
from promptreach.training.task.objective import Outcomes
from promptreach.training.task.text_metrics import TextMetric

LEVEL = 0.9
"""The share of samples whose interval holds the truth; two-sided, as everywhere in this library."""
_RESAMPLES = 1000
_ENDS = torch.tensor([(1 - LEVEL) / 2, (1 + LEVEL) / 2], dtype=torch.double)


@dataclass(frozen=True)
class Interval:
    """A number with what it may be on other rows of the same kind.

    Attributes:
        value: on these rows.
        low, high: the ends of the interval.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"

    def signed(self) -> str:
        """The text of a difference."""
        return f"{self.value:+.3f} ({self.low:+.3f} to {self.high:+.3f})"


def metrics_of(outcomes: Outcomes, decides: LabelMetric | TextMetric | None = None) -> dict[str, Interval]:
    """Accuracy and loss per answer; with several answers a row, also the share of rows with every one right; in front
    of them another metric that decides.

    Shares of rows have the exact binomial interval (Clopper and Pearson), ratios of sums that of the residuals around
    the ratio with Student's quantile, and what is neither that of a percentile bootstrap over rows.
    """
    single = bool((outcomes.answers == 1).all())
    right = outcomes.right == outcomes.answers
    found = {} if decides is None else {in_words(decides): _of(outcomes, decides)}
    found["accuracy"] = _share(right) if single else _ratio(outcomes.right, outcomes.answers)
    if not single:
        found["every token right"] = _share(right)
    return {**found, "loss": _ratio(outcomes.loss, outcomes.answers)}


def macro_f1(answers: Int[Tensor, " rows"], truth: Int[Tensor, " rows"], seed: int) -> Interval:
    """The mean F1 over the labels that occur in the truth or among the answers, with a percentile bootstrap over rows.

    Args:
        answers, truth: label numbers.
        seed: for the resamples.
    """
    # Rows drawn with replacement are a multinomial draw of the pairs that occur.
    pairs, counts = torch.unique(torch.stack([answers, truth], dim=1), dim=0, return_counts=True)
    used = torch.unique(pairs)
    given, true = ((part[:, None] == used).double() for part in pairs.T)
    rows = len(truth)
    drawn = np.random.default_rng(seed).multinomial(rows, (counts.double() / rows).numpy(), size=_RESAMPLES)
    value, resampled = (_f1(each, given, true) for each in (counts[None].double(), torch.from_numpy(drawn).double()))
    low, high = torch.quantile(resampled, _ENDS).tolist()
    return Interval(float(value), low, high)


def _of(outcomes: Outcomes, metric: LabelMetric | TextMetric) -> Interval:
    if metric in MEANS:
        assert outcomes.judged is not None
        first = outcomes.judged[:, 0].double()
        return _share(first > 0) if metric == "exact_match" else _ratio(first, torch.ones_like(first))
    low, high = torch.quantile(bootstrap(metric, outcomes, None), _ENDS).tolist()
    return Interval(score(metric, outcomes), low, high)


def _f1(weights: Tensor, given: Tensor, true: Tensor) -> Tensor:
    """The macro F1 under each row of counts of pairs; a label that a resample lost does not count in it."""
    both, sizes = weights @ (given * true), weights @ (given + true)
    scores = 2 * both / sizes  # 0 / 0 where the label is in neither
    return scores.nanmean(1)


def _share(right: Tensor) -> Interval:
    hits, rows = int(right.sum()), len(right)
    ends = binomtest(hits, rows).proportion_ci(LEVEL, method="exact")
    return Interval(hits / rows, float(ends.low), float(ends.high))


def _ratio(part: Tensor, whole: Tensor) -> Interval:
    part, whole = part.double(), whole.double()
    rows, value = len(part), float(part.sum() / whole.sum())
    if rows < 2:
        return Interval(value, -math.inf, math.inf)
    error = float((part - value * whole).std() / whole.mean()) / math.sqrt(rows)
    half = float(student.ppf(1 - (1 - LEVEL) / 2, rows - 1)) * error
    return Interval(value, value - half, value + half)
