"""The metric that decides on rows of a task: which ones may, which one does where none is chosen, and the label that it
is about.

Searches for a learning rate, verdicts, findings and model cards all ask here, so that a metric is refused or taken in
the same way wherever it is named.
"""

from collections.abc import Mapping
from typing import cast

from promptreach.data import Completions, LabelledTexts, TaskData, common_options
from promptreach.errors import Fault
from promptreach.training.task.judging import Judging
from promptreach.training.task.kinds.registry import kind_of
from promptreach.training.task.metric_names import (
    BINARY,
    LABEL_METRICS,
    METRICS,
    TEXT_METRICS,
    Metric,
    metric_name_faults,
    metric_named,
)

RARE = 0.2
"""The share of rows below which a label is rare, so that accuracy hardly hears of it."""
KINDS_IN_WORDS: Mapping[str, str] = {
    "labels": "labels",
    "several_labels": "several labels a row",
    "number": "numbers",
    "tags": "tags",
    "span": "spans",
    "completions": "completions",
}
"""What rows of each kind of task have, in words."""


def metric_faults(metric: str | None, data: TaskData | None) -> list[Fault]:
    """Faults of a metric's name, and of its use on such data where that is known."""
    if metric is None:
        return []
    if data is None or metric not in METRICS:
        return metric_name_faults(metric)
    allowed, what = metrics_for(data)
    if metric in allowed:
        return []
    remedy = ""
    if metric in BINARY and "macro_f1" in allowed:
        remedy = f"Of more than two, take {' or '.join(one for one in ('macro_f1', 'mcc') if one in allowed)}."
    elif isinstance(data, Completions) and metric in LABEL_METRICS and not data.options:
        remedy = "Where the completions are a few that repeat, name them with --options (options); or take exact_match."
    return [Fault("metric", f"{metric!r} on {what}", f"one of {', '.join(allowed)}", remedy)]


def metrics_for(data: TaskData) -> tuple[tuple[Metric, ...], str]:
    """The metrics that such rows can be judged by, the usual one first, and what their answers are in words."""
    kind = kind_of(data)
    if kind is not None and not isinstance(data, LabelledTexts):
        usual = kind.usual(data)
        others = [metric for metric in kind.metrics if metric != usual and (metric != "entity_f1" or metric == usual)]
        return cast("tuple[Metric, ...]", (usual, *others)), KINDS_IN_WORDS[data.kind]
    if isinstance(data, Completions) and not data.options:
        return ("loss", *TEXT_METRICS), "completions"
    names = data.label_names if isinstance(data, LabelledTexts) else common_options(data)
    several = [metric for metric in LABEL_METRICS if metric != "accuracy" and (metric not in BINARY or len(names) == 2)]
    if isinstance(data, LabelledTexts):
        return ("accuracy", *several), f"{len(names)} labels"
    # An option's place means the same in every row only where all rows have the same.
    several = [metric for metric in several if names and metric not in BINARY]
    return ("accuracy", *several), "options"


def usual_metric(data: TaskData) -> Metric:
    """The metric that decides where none is chosen."""
    return metrics_for(data)[0][0]


def chosen_metric(metric: str | None, judging: Judging) -> Metric | None:
    """The metric that was asked for, by its name or by a way of judging written answers; None where none was.

    Args:
        metric: one without faults, see `metric_faults`.
        judging: a pattern alone asks for exact match.
    """
    return metric_named(metric) or judging.metric


def positive_label(data: TaskData) -> int:
    """The label of two that F1 and average precision are about: the second, unless the first is rare and it is not."""
    first = [label == 0 for label in data.labels] if isinstance(data, LabelledTexts) else []
    return 0 if first and sum(first) < RARE * len(first) else 1
