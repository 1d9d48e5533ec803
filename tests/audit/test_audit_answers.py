"""Audits whose answers are chosen among options or written, and words in front of the rows as rivals."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import promptreach
from helpers.audit_cases import rows as labelled_rows
from helpers.models import tiny_model
from helpers.tasks import sentences
from promptreach import cli
from promptreach.audit.settings import BUDGETS
from promptreach.errors import InputError
from promptreach.hf import OpenModel

SMALL: dict[str, Any] = {"budget": "quick", "methods": ["prompt", "lora"], "tokens": [2], "steps": 4}
SMALL["learning_rates"] = 0.1


@pytest.fixture(autouse=True)
def _small_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    small = promptreach.tuning.Limits(48, 16, 24, 24)
    monkeypatch.setitem(BUDGETS, "quick", BUDGETS["quick"].__class__("quick", 0, small, (2,), 2, 4, 8, 4))


@pytest.fixture(scope="module")
def model() -> OpenModel:
    opened = tiny_model("llama", max_position_embeddings=256)
    opened.tokenizer.eos_token = "[SEP]"
    return opened


def choices(count: int = 90) -> list[dict[str, Any]]:
    return [
        {"question": text, "choices": ["good", "bad", "very good"], "answer": row % 3}
        for row, text in enumerate(sentences(count))
    ]


def echoes(count: int = 90) -> list[dict[str, Any]]:
    return [{"prompt": f"{text} <b>", "completion": text.split()[0]} for text in sentences(count)]


def cells(result: Any, check: str) -> list[list[Any]]:
    return [list(row) for row in result.finding(check).blocks[0].rows]


def test_options_are_judged_by_choice_beside_an_instruction_and_examples(model: OpenModel, tmp_path: Path) -> None:
    words = {"instruction": "it is good or bad", "shots": 6}
    result = promptreach.audit(model, choices(), out=tmp_path / "out", **SMALL, **words)
    assert [finding.reason for finding in result.findings if finding.status == "failed"] == []
    training = result.finding("training")
    assert training.values["metric"] == "accuracy"
    names = ["bare model, instruction", "bare model, 6 examples", "bare model, instruction and 6 examples"]
    assert list(training.values["in_context"]) == names
    assert [row[0] for row in cells(result, "training")][-3:] == names
    for name in names:
        own = training.values["in_context"][name]
        assert own["against_lora"]["gain"] == pytest.approx(
            own["accuracy"] - training.values["methods"]["lora rank 2"]["accuracy"]
        )
    assert any("bare model, instruction:" in reason.text.lower() for reason in result.reasons)
    shown = cells(result, "answers")
    assert all(answer in ("good", "bad", "very good") for row in shown for answer in row[1:])
    assert "by chance: 33.3%" in result.finding("bare_model").summary
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Rows as they were answered" in page


def test_what_is_written_decides_and_is_shown_escaped(model: OpenModel, tmp_path: Path) -> None:
    result = promptreach.audit(model, echoes(), out=tmp_path / "out", metric="token_f1", **SMALL)
    assert [finding.reason for finding in result.findings if finding.status == "failed"] == []
    training = result.finding("training")
    assert training.values["metric"] == "token_f1"
    assert training.blocks[0].columns[1] == "held-out token F1"  # type: ignore[union-attr]
    assert all(0 <= found["value"] <= 1 for found in training.values["methods"].values())
    assert "the token F1 is" in result.finding("bare_model").summary
    page = (tmp_path / "out" / "report.html").read_text()
    assert "&lt;b&gt;" in page
    assert "<b>" not in page.split("Rows as they were answered")[-1]


def test_labels_are_asked_for_by_their_words(model: OpenModel) -> None:
    relabelled = [{**row, "label": {"fresh": "good", "rotten": "bad"}[row["label"]]} for row in labelled_rows(90)]
    plan = promptreach.audit(model, relabelled, dry_run=True, shots=2, **SMALL)
    assert plan.task == "labels"
    chosen = promptreach.audit(model, relabelled, dry_run=True, options={"good": "great", "bad": "awful"}, **SMALL)
    assert (chosen.task, chosen.metric) == ("options", "accuracy")
    assert promptreach.audit(model, echoes(), dry_run=True, metric="chrf", **SMALL).metric == "chrf"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"instruction": "answer {text}"}, "the field {text}"),
        ({"instruction": "answer {"}, "braces that do not close"),
        ({"shots": 0}, "from 1 to 64"),
        ({"metric": "mcc"}, "'mcc' on completions"),
        ({"answer_pattern": "("}, "a regular expression"),
        ({"answer_pattern": r"\d+"}, "finds nothing in 90 of 90 completions"),
        ({"length_normalised": True}, "rows without options"),
    ],
)
def test_what_does_not_fit_is_named_before_work(model: OpenModel, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as caught:
        promptreach.audit(model, echoes(), dry_run=True, **SMALL, **options)
    assert words in str(caught.value)


def test_an_encoder_is_not_asked_in_words() -> None:
    with pytest.raises(InputError, match="a model that writes"):
        promptreach.audit(tiny_model("bert"), labelled_rows(60), dry_run=True, shots=2, **SMALL)


def test_the_command_line_takes_them_all(model: OpenModel, tmp_path: Path) -> None:
    model.release().save_pretrained(tmp_path / "model")
    model.tokenizer.save_pretrained(tmp_path / "model")
    data, config = tmp_path / "rows.jsonl", tmp_path / "audit.yaml"
    data.write_text(
        "".join(
            json.dumps({"prompt": row["prompt"], "completion": ["good", "bad"][at % 2]}) + "\n"
            for at, row in enumerate(echoes())
        )
    )
    config.write_text("options: [good, bad]\nshots: 2\ninstruction: 'it is {prompt}'\nlength_normalised: true\n")
    call = ["audit", str(tmp_path / "model"), str(data), "--budget", "quick", "--dry-run", "--json"]
    for own in (["--options", "good,bad", "--shots", "2"], ["--config", str(config)]):
        outcome = CliRunner().invoke(cli.app, [*call, *own])
        assert outcome.exit_code == 0, outcome.output
        plan = json.loads(outcome.stdout)
        assert (plan["task"], plan["metric"], plan["settings"]["shots"]) == ("options", "accuracy", 2)
    refused = CliRunner().invoke(cli.app, [*call, "--options", "good,awful"])
    assert refused.exit_code == 2
    assert "'awful', which is no row's answer" in refused.output
