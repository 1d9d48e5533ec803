"""Predictions beside outcomes: what they may cost, and from how many rows they are made."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers import audit_cases
from helpers.audit_cases import finding_of, rows, trained
from promptreach.audit.checks import prediction
from promptreach.prediction.forecast import Prediction
from promptreach.training.task.task import Task


@pytest.mark.parametrize(("most", "rows"), [(100.0, 48), (0.0, None)])
def test_predictions_take_all_rows_or_none(
    most: float, rows: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, name = trained(tmp_path / "model", "bert", "prompt")
    context.predicts = True
    monkeypatch.setattr(prediction, "MOST", most)
    found = finding_of("prediction", context)
    if rows is None:
        assert found.status == "skipped"
        assert "Gradients of 50% of the rows would cost more than 0% of this training" in found.reason
        return
    assert found.sample.startswith(f"{rows} training and 24 held-out rows")
    assert set(found.values["methods"]) == {name}


def test_predictions_are_made_from_as_many_rows_as_they_may_cost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The dearer they may be the more rows, from half of the training rows on; nothing is predicted from fewer."""
    context, _ = trained(tmp_path / "model", "bert", "prompt")
    context.predicts = True
    found = []
    for most in (0.5, 1.0, 1.4, 1.6, 1.8, 2.0, 2.2, 2.4, 4.0):
        monkeypatch.setattr(prediction, "MOST", most)
        methods, train_rows = prediction.affordable(context)
        assert methods == (["prompt"] if train_rows else [])
        found.append(train_rows)
    assert found == sorted(found)
    assert found[0] == 0
    assert found[-1] == 48
    partial = [(index, count) for index, count in enumerate(found) if 0 < count < 48]
    assert partial
    assert all(count >= 24 for _, count in partial)
    monkeypatch.setattr(prediction, "affordable", lambda context: (["prompt"], 30))
    assert finding_of("prediction", context).sample.startswith("30 training")


def test_the_rows_of_a_file_sorted_by_label_are_cut_evenly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The split keeps the order of the file, so that its first rows may all be of one class."""
    monkeypatch.setattr(audit_cases, "rows", lambda: sorted(rows(), key=lambda row: row["label"]))
    context, name = trained(tmp_path / "model", "bert", "prompt")
    context.predicts = True
    whole = context.task
    monkeypatch.setattr(prediction, "MOST_HELD_OUT", 12)
    monkeypatch.setattr(prediction, "affordable", lambda context: (["prompt"], 24))
    seen: list[Task] = []

    def watched(task: Task, *asked: Any) -> Iterator[Prediction]:
        seen.append(task)
        return forecasts(task, *asked)

    forecasts = prediction.forecasts
    monkeypatch.setattr(prediction, "forecasts", watched)
    found = finding_of("prediction", context).values["methods"][name]
    (cut,) = seen
    for part, count in (("train", 24), ("held_out", 12)):
        labels, ids = cut.encoded[part].labels, cut.encoded[part].sequences
        assert labels is not None
        assert len(labels) == count
        assert 0.25 < labels.double().mean() < 0.75
        assert labels.tolist() == sorted(labels.tolist())  # still in the order of the file
        assert set(ids) < set(whole.encoded[part].sequences)
    held_out = context.sweeps[name].best.held_out
    assert held_out is not None
    chosen = [whole.encoded["held_out"].sequences.index(ids) for ids in cut.encoded["held_out"].sequences]
    assert found["loss"] == pytest.approx(float(held_out.loss[chosen].double().mean()))


def test_below_budget_thorough_the_reason_names_where_predictions_are_made(tmp_path: Path) -> None:
    context, _ = trained(tmp_path / "model", "bert", "prompt")
    assert not context.predicts
    found = finding_of("prediction", context)
    assert found.status == "skipped"
    assert "promptreach.tuning.predict" in found.reason
