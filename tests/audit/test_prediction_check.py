"""Predictions beside outcomes: what they may cost, and from how many rows they are made."""

from pathlib import Path

import pytest
from test_recommendation import trained

from promptreach.audit.checks import prediction


@pytest.mark.parametrize(("most", "rows"), [(100.0, 48), (0.0, None)])
def test_predictions_take_all_rows_or_none(
    most: float, rows: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, name = trained(tmp_path / "model", "bert", "prompt")
    monkeypatch.setattr(prediction, "MOST", most)
    found = prediction.run(context)
    if rows is None:
        assert found.status == "skipped"
        assert "Gradients of 50% of the rows would cost more than 0% of this training" in found.reason
        return
    assert found.sample.startswith(f"{rows} training and 24 held-out rows")
    assert set(found.values["methods"]) == {name}


def test_predictions_are_made_from_fewer_rows_where_all_would_cost_too_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, name = trained(tmp_path / "model", "bert", "prompt")
    beside = 48 + 24  # rows left out, and held-out ones
    trained_rows = context.sweeps[name].steps * context.settings.batch_size
    for wanted in (30, 24):
        monkeypatch.setattr(prediction, "MOST", (beside + wanted + 0.5) / trained_rows)
        assert prediction._affordable(context) == (["prompt"], wanted)
        assert prediction.run(context).sample.startswith(f"{wanted} training")
    monkeypatch.setattr(prediction, "MOST", (beside + 23.5) / trained_rows)
    assert prediction._affordable(context) == ([], 0)
