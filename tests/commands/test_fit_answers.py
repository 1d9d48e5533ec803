"""One adapter for options and for written completions, from training to its scores and its answers."""

from pathlib import Path
from typing import Any

import pytest

from helpers.models import tiny_model
from helpers.tasks import sentences
from promptreach.commands.evaluate import evaluate_adapters
from promptreach.commands.fit import fit_adapter
from promptreach.commands.predict import predict_texts
from promptreach.errors import InputError
from promptreach.hf import OpenModel
from promptreach.tables import read_task
from promptreach.training.task.judging import judging_of

SHORT: dict[str, Any] = {
    "tokens": 3,
    "steps": 6,
    "batch_size": 8,
    "max_length": 24,
    "learning_rate": 0.3,
    "quiet": True,
}


@pytest.fixture(scope="module")
def model() -> OpenModel:
    opened = tiny_model("llama")
    opened.tokenizer.eos_token = "[SEP]"
    return opened


def choices(count: int = 60) -> list[dict[str, Any]]:
    words = ["good", "bad", "very good"]
    return [
        {"question": text, "choices": words[: 2 + row % 2], "answer": row % 2}
        for row, text in enumerate(sentences(count))
    ]


def echoes(count: int = 60) -> list[dict[str, Any]]:
    return [{"prompt": text, "completion": text.split()[0]} for text in sentences(count)]


def test_options_are_trained_scored_and_chosen(model: OpenModel, tmp_path: Path) -> None:
    rows = read_task(choices())
    found = fit_adapter(model, rows, tmp_path / "own", **SHORT)
    assert "of the answers right" in found.summary
    scored = evaluate_adapters(model, [tmp_path / "own"], rows, max_length=24)
    assert set(scored.values["metrics"]["own"]) == {"accuracy", "loss"}
    assert scored.values["metrics"]["own"]["accuracy"] != scored.values["metrics"]["bare model"]["loss"]
    chosen = predict_texts(model, tmp_path / "own", ["the cat sat"], options=["good", "bad", "awful"])
    (answer,) = chosen.values["answers"]
    assert answer["option"] in ("good", "bad", "awful")
    assert 1 / 3 < answer["share"] <= 1
    with pytest.raises(InputError, match="each once"):
        predict_texts(model, tmp_path / "own", ["the cat sat"], options=["good", "good"])


@pytest.mark.parametrize(("metric", "column"), [("exact_match", "exact match"), ("chrf", "chrF")])
def test_written_completions_are_judged_by_the_metric(
    model: OpenModel, tmp_path: Path, metric: str, column: str
) -> None:
    rows = read_task(echoes())
    found = fit_adapter(model, rows, tmp_path / "own", metric=metric, **SHORT)
    assert found.summary.startswith(f"prompt 3 tokens has {column} ")
    assert f"points of {column}" in (tmp_path / "own" / "README.md").read_text()
    scored = evaluate_adapters(
        model, [tmp_path / "own"], rows, max_length=24, metric=metric, judging=judging_of(metric, None, False)
    )
    own = scored.values["metrics"]["own"][column]
    assert 0 <= own["low"] <= own["value"] <= own["high"] <= 1
    assert scored.blocks[1].columns[2] == column  # type: ignore[union-attr]


def test_a_metric_that_does_not_fit_is_refused_before_anything_is_trained(model: OpenModel, tmp_path: Path) -> None:
    for rows, metric, words in (
        (choices(), "chrf", "'chrf' on options"),
        (echoes(), "mcc", "'mcc' on completions"),
        (choices(), "pearson", "'pearson' on options"),
        (echoes(), "accuracies", "one of accuracy"),
    ):
        with pytest.raises(InputError, match=words):
            fit_adapter(model, read_task(rows), tmp_path / "never", metric=metric, **SHORT)
    with pytest.raises(InputError, match="finds nothing in"):
        fit_adapter(model, read_task(echoes()), tmp_path / "never", answer_pattern=r"\d+", **SHORT)
    assert not (tmp_path / "never").exists()
