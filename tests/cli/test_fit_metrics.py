"""``--metric`` of ``promptreach fit`` and ``evaluate``: in front of every finding and card, for every kind of rows."""

import json
from pathlib import Path
from typing import Any

import pytest

from helpers.command_line import run, saved_model
from helpers.kind_rows import ROWS
from promptreach.training.task.deciding import KINDS_IN_WORDS

SHORT = ("--steps", 2, "--tokens", 2, "--max-length", 24, "--quiet", "--json")
SEARCHED = ("mcc", "accuracy")  # the others with a rate that is given: the order of runs is tested with the search
ASKED = [
    ("labels", "bert", "mcc", "MCC"),
    ("labels", "bert", "f1", "F1"),
    ("labels", "bert", "average_precision", "average precision"),
    ("several labels", "bert", "macro_f1", "macro F1"),
    ("number", "bert", "spearman", "Spearman correlation"),
    ("tags", "bert", "accuracy", "tag accuracy"),
    ("span", "bert", "accuracy", "exact match"),
    ("options", "llama", "balanced_accuracy", "balanced accuracy"),
    ("completions", "llama", "token_f1", "token F1"),
]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder and a decoder."""
    base = tmp_path_factory.mktemp("metrics")
    saved_model(base / "bert", "bert")
    saved_model(base / "llama")
    config = base / "llama" / "tokenizer_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"eos_token": "[SEP]"}))
    return base


def rows_at(kind: str, folder: Path) -> Path:
    """Rows of a kind, as a file."""
    place = folder / "rows.jsonl"
    place.write_text("\n".join(map(json.dumps, ROWS[kind])))
    return place


def found_by(*arguments: object) -> tuple[dict[str, Any], list[str]]:
    """The values that a call that is right finds, and the columns of its table of metrics."""
    status, out, err = run(*arguments)
    assert status == 0, err
    finding = json.loads(out)
    return finding["values"], finding["blocks"][0]["columns"]


@pytest.mark.parametrize(("kind", "family", "metric", "column"), ASKED)
def test_a_metric_decides_for_every_kind_of_rows(
    kind: str, family: str, metric: str, column: str, models: Path, tmp_path: Path
) -> None:
    rows, model, adapter = rows_at(kind, tmp_path), models / family, tmp_path / "own"
    rate = () if metric in SEARCHED else ("--learning-rate", 0.01)
    found, columns = found_by("fit", model, rows, "--out", adapter, "--metric", metric, *rate, *SHORT)
    assert found["metric"] == metric
    own = found["metrics"]["prompt 2 tokens"]
    assert columns[1] == column
    assert own[column]["low"] <= own[column]["value"] <= own[column]["high"]
    card = (adapter / "README.md").read_text()
    assert f"| | {column} |" in card
    assert f"{own[column]['value']:.3f} (" in card
    assert f"of {column}" in card or f"in {column}" in card
    by = {"mcc": "by the MCC", "accuracy": "by the loss"}.get(metric, "none was searched for")
    assert by in card
    assert ("is about 'yes'" in card) == (metric in ("f1", "average_precision"))
    how = ("--metric", metric, "--max-length", 24, "--json", "--quiet")
    said, columns = found_by("evaluate", model, adapter, rows, *how)
    assert said["metric"] == metric
    assert columns[1] == column
    assert said["metrics"]["own"][column]["low"] <= said["metrics"]["own"][column]["value"]


@pytest.mark.parametrize("kind", ["number", "span", "options", "completions"])
def test_a_metric_of_another_task_is_refused_by_both_commands_in_the_same_words(
    kind: str, models: Path, tmp_path: Path
) -> None:
    family = "llama" if kind in ("options", "completions") else "bert"
    wrong = "pearson" if kind != "number" else "mcc"
    rows = rows_at(kind, tmp_path)
    status, _, err = run("fit", models / family, rows, "--metric", wrong, "--out", tmp_path / "never", *SHORT)
    also, _, same = run("audit", models / family, rows, "--metric", wrong, "--dry-run", "--json")
    assert (status, also) == (2, 2)
    (line,) = [line for line in err.splitlines() if "metric" in line and repr(wrong) in line]
    assert line in same
    assert "Traceback" not in err
    assert not (tmp_path / "never").exists()
    assert any(words in line for words in (*KINDS_IN_WORDS.values(), "options"))
