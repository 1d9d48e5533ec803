"""Which metrics may decide on rows, which one does, and the label of two that it is about."""

import pytest

from promptreach.data import Completions, LabelledTexts, SeveralLabels, TaggedWords
from promptreach.training.task.deciding import (
    chosen_metric,
    metric_faults,
    metrics_for,
    positive_label,
    usual_metric,
)
from promptreach.training.task.judging import PLAIN, Judging
from promptreach.training.task.metric_names import METRICS


@pytest.mark.parametrize(
    ("metric", "classes", "expected"),
    [
        ("f2", 2, "one of accuracy"),
        ("f1", 3, "Of more than two, take macro_f1"),
        ("loss", 2, "'loss' on 2 labels"),
        ("chrf", 2, "'chrf' on 2 labels"),
        ("pearson", 2, "'pearson' on 2 labels"),
        ("mcc", 3, ""),
        ("loss", 0, ""),
        ("chrf", 0, ""),
        ("f1", 0, "name them with --options"),
    ],
)
def test_a_metric_that_does_not_fit_is_named(metric: str, classes: int, expected: str) -> None:
    names = tuple(f"label {index}" for index in range(classes))
    data = LabelledTexts(("a", "b"), (0, 1), names) if classes else Completions(("a",), ("b",))
    faults = metric_faults(metric, data)
    assert [expected in str(fault) for fault in faults] == ([True] if expected else [])


@pytest.mark.parametrize("metric", ["f1", "average_precision"])
def test_the_remedy_names_only_metrics_that_may_be_taken(metric: str) -> None:
    for data in (
        SeveralLabels(("a", "b"), ((0,), (1,)), ("x", "y")),
        LabelledTexts(("a", "b"), (0, 1), ("x", "y", "z")),
        TaggedWords((("a",), ("b",)), ((0,), (1,)), ("x", "y")),
    ):
        (fault,) = metric_faults(metric, data)
        named = {word.strip(".,") for word in fault.remedy.split()} & set(METRICS)
        assert named <= set(metrics_for(data)[0])
        assert named or "macro_f1" not in metrics_for(data)[0]


def test_options_have_the_metrics_of_labels_where_all_rows_share_them() -> None:
    shared = Completions(("a", "b"), (" x", " y"), options=((" x", " y"),) * 2)
    own = Completions(("a", "b"), (" x", " z"), options=((" x", " y"), (" y", " z")))
    assert metrics_for(shared)[0] == ("accuracy", "balanced_accuracy", "macro_f1", "mcc")
    assert metrics_for(own)[0] == ("accuracy",)
    assert "'mcc' on options" in str(metric_faults("mcc", own)[0])


def test_the_metric_is_the_one_asked_for_or_that_of_the_pattern() -> None:
    assert chosen_metric("mcc", PLAIN) == "mcc"
    assert chosen_metric("loss", PLAIN) == "loss"
    assert chosen_metric(None, Judging("exact_match", r"\d+")) == "exact_match"
    assert chosen_metric(None, PLAIN) is None
    assert usual_metric(Completions(("a",), ("b",))) == "loss"


@pytest.mark.parametrize(("ones", "positive"), [(1, 1), (50, 1), (81, 0), (99, 0)])
def test_the_rarer_label_is_the_one_that_is_looked_for_where_it_is_rare(ones: int, positive: int) -> None:
    labels = tuple([1] * ones + [0] * (100 - ones))
    assert positive_label(LabelledTexts(("a",) * 100, labels, ("no", "yes"))) == positive


def test_an_unknown_name_is_refused_before_any_row_is_known() -> None:
    (fault,) = metric_faults("acuracy", None)
    assert "balanced_accuracy" in str(fault)
    assert metric_faults("mcc", None) == []
