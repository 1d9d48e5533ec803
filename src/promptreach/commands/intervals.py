"""Metrics with their 90 % intervals over rows, of outcomes that are there row by row."""

import math
from dataclasses import dataclass

import torch
from scipy.stats import binomtest
from scipy.stats import t as student
from torch import Tensor

from promptreach.data import LabelledTexts, TaskData
from promptreach.diagnosis.measures.comparison import MEANS
from promptreach.training.task.deciding import positive_label, usual_metric
from promptreach.training.task.kinds.kind import TaskKind
from promptreach.training.task.metric_names import BINARY, SCORE_METRICS, Metric, ScoreMetric, in_words
from promptreach.training.task.metrics import bootstrap, is_known, score
from promptreach.training.task.objective import Outcomes

LEVEL = 0.9
"""The share of samples whose interval holds the truth; two-sided, as everywhere in this library."""
_SHOWN = ("macro_f1", "micro_f1", "pearson", "spearman", "r2", "entity_f1", "token_f1")
"""The metrics that are shown without being asked for: those of one label a row would be too many."""
_NO_SHARES = (*(in_words(name) for name in ("mcc", "pearson", "spearman", "r2")), "root mean square error", "loss")
"""The metrics that are no share of anything, which points are of."""
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


def metrics_of(
    outcomes: Outcomes,
    decides: ScoreMetric | None = None,
    kind: TaskKind | None = None,
    seed: int = 0,
    positive: int = 1,
) -> dict[str, Interval]:
    """The metric that decides, the share of right answers, the other metrics of the kind of task, the loss per answer.

    With several answers a row, also the share of rows with every one right. Shares of rows have the exact binomial
    interval (Clopper and Pearson), ratios of sums that of the residuals around the ratio with Student's quantile, and
    what is neither that of a percentile bootstrap over rows.

    Args:
        outcomes: on all rows.
        decides: stands in front; None for accuracy, or for nothing that is more than the others.
        kind: of the task; None for what the model's own language head answers.
        seed: for the bootstrap.
        positive: the label that F1 and average precision are about.
    """
    found = {} if decides is None else {in_words(decides): _of(outcomes, decides, seed, positive)}
    if kind is None or kind.accuracy:
        single = bool((outcomes.answers == 1).all())
        right = outcomes.right == outcomes.answers
        name = kind.accuracy if kind else "accuracy"
        found[name] = _share(right) if single else _ratio(outcomes.right, outcomes.answers)
        if not single:
            found["every token right" if kind is None else "every answer of a row right"] = _share(right)
    for metric in () if kind is None else shown_metrics(kind):
        if in_words(metric) not in found and is_known(metric, outcomes):
            found[in_words(metric)] = _of(outcomes, metric, seed, positive)
    if outcomes.right.isnan().any():
        found["root mean square error"] = _root(outcomes)
    return {**found, "loss": _ratio(outcomes.loss, outcomes.answers)}


def gained(name: str, gain: Interval) -> str:
    """A difference in a metric in words: in points where that is a share, in its own unit otherwise.

    Args:
        name: the metric's, as `metrics_of` has it.
        gain: the difference, of which more is better.
    """
    if name in _NO_SHARES:
        return f"{gain.value:+.3f} ({gain.low:+.3f} to {gain.high:+.3f}) in {name}"
    return f"{100 * gain.value:+.1f} points of {name} ({100 * gain.low:+.1f} to {100 * gain.high:+.1f})"


def decided_by(data: TaskData, asked: Metric | None) -> ScoreMetric | None:
    """The metric that stands in front of accuracy: the one that was asked for, else the usual one of the kind of task;
    None where that is accuracy or the loss."""
    usual = asked or usual_metric(data)
    return None if usual == "accuracy" or usual == "loss" else usual


def about_label(data: TaskData, metric: Metric | None) -> str:
    """The label that a metric is about, as a sentence; empty for a metric of all labels."""
    if metric not in BINARY or not isinstance(data, LabelledTexts):
        return ""
    return f" {in_words(metric).capitalize()} is about {data.label_names[positive_label(data)]!r}."


def shown_metrics(kind: TaskKind) -> tuple[ScoreMetric, ...]:
    """The metrics of a kind beside accuracy: of one label a row macro F1 alone, of every other kind all."""
    return tuple(one for one in SCORE_METRICS if one in kind.metrics and one in _SHOWN)


def _of(outcomes: Outcomes, metric: ScoreMetric, seed: int, positive: int) -> Interval:
    if metric in MEANS:
        assert outcomes.judged is not None
        first = outcomes.judged[:, 0].double()
        return _share(first > 0) if metric == "exact_match" else _ratio(first, torch.ones_like(first))
    low, high = torch.quantile(bootstrap(metric, outcomes, None, positive, seed), _ENDS).tolist()
    return Interval(score(metric, outcomes, positive), low, high)


def _root(outcomes: Outcomes) -> Interval:
    """The root of the mean squared error, in the unit of the numbers."""
    assert outcomes.given is not None
    assert outcomes.true is not None
    weight = torch.ones_like(outcomes.loss) if outcomes.weight is None else outcomes.weight
    squares = _ratio((outcomes.given - outcomes.true).square() * weight, weight)
    return Interval(*(math.sqrt(max(0.0, end)) for end in (squares.value, squares.low, squares.high)))


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
