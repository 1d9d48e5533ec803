"""The names of the metrics, without anything heavy: what a call may ask for, before rows or models are looked at.

Which of them fit such rows is what `promptreach.training.task.deciding` says, what they are
`promptreach.training.task.metrics` and, of written answers, `promptreach.training.task.text_metrics`.
"""

from typing import Literal, get_args

from promptreach.errors import Fault
from promptreach.training.arguments import choice_faults

LabelMetric = Literal["accuracy", "balanced_accuracy", "macro_f1", "f1", "mcc", "average_precision"]
TextMetric = Literal["exact_match", "token_f1", "rouge_l", "chrf"]
ScoreMetric = Literal[LabelMetric, TextMetric, "micro_f1", "pearson", "spearman", "r2", "entity_f1"]
"""The metrics of which more is better."""
Metric = ScoreMetric | Literal["loss"]

LABEL_METRICS: tuple[LabelMetric, ...] = get_args(LabelMetric)
"""Those of one label a row, or of one of several options."""
TEXT_METRICS: tuple[TextMetric, ...] = get_args(TextMetric)
"""The metrics of written answers by name."""
SCORE_METRICS: tuple[ScoreMetric, ...] = get_args(ScoreMetric)
"""The metrics of which more is better, by name."""
METRICS: tuple[Metric, ...] = (*SCORE_METRICS, "loss")
"""All that may decide on rows of some kind."""
BINARY: tuple[ScoreMetric, ...] = ("f1", "average_precision")
"""Those that are about one label of two."""
SHARES: tuple[ScoreMetric, ...] = ("accuracy",)
"""Those that are a share of answers, and so have intervals of their own."""
_WORDS = {
    "macro_f1": "macro F1",
    "micro_f1": "micro F1",
    "f1": "F1",
    "mcc": "MCC",
    "pearson": "Pearson correlation",
    "spearman": "Spearman correlation",
    "r2": "R²",
    "entity_f1": "entity F1",
    "token_f1": "token F1",
    "rouge_l": "ROUGE-L",
    "chrf": "chrF",
}


def metric_named(name: str | None) -> Metric | None:
    """The metric of that name; None where there is none."""
    return next((metric for metric in METRICS if metric == name), None)


def metric_name_faults(name: str | None) -> list[Fault]:
    """The faults of a metric by its name alone.

    Args:
        name: as it was given; None asks for the usual one.
    """
    return choice_faults("metric", name, METRICS)


def in_words(metric: Metric) -> str:
    """The name of a metric as people write it."""
    return _WORDS.get(metric, metric.replace("_", " "))
