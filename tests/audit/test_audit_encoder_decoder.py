"""An audit, a diagnosis and a prediction on a tiny T5: completions by its decoder, labels by its encoder's states."""

import json
from pathlib import Path

import pytest
from peft import PeftModel
from transformers import AutoModelForTextEncoding
from typer.testing import CliRunner

import promptreach
from helpers.pairs import pair_model, pair_module, pair_tokenizer
from helpers.tasks import completions, labelled
from promptreach import cli
from promptreach.audit.settings import BUDGETS
from promptreach.data import TaskData
from promptreach.tuning import Limits, diagnose, predict

DROPPED = {
    "attention_share": "three places",
    "inference_cost": "once a token",
    "limits": "computed from weights",
    "weight_change": "one of weights",
}


@pytest.fixture(autouse=True)
def _small_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = BUDGETS["quick"].__class__("quick", 0, Limits(32, 12, 16, 16), (2, 4), 2, 4, 8, 4)
    monkeypatch.setitem(BUDGETS, "quick", settings)


@pytest.mark.parametrize("data", [completions(48), pytest.param(labelled(60), marks=pytest.mark.slow)])
def test_an_audit_judges_and_names_what_drops_out(data: TaskData, tmp_path: Path) -> None:
    result = promptreach.audit(pair_model("t5"), data, budget="quick", out=tmp_path / "out")
    found = {finding.check: finding for finding in result.findings}
    assert found["training"].status == "done"
    assert not [name for name, finding in found.items() if finding.status == "failed"]
    writes = data.__class__.__name__ == "Completions"
    for name, words in DROPPED.items():
        if writes or name in ("limits", "weight_change"):
            assert found[name].status == "skipped"
            assert words in found[name].reason
        else:
            assert found[name].status == "done"
    loading = "AutoModelForSeq2SeqLM" if writes else "AutoModelForTextEncoding"
    shown = (tmp_path / "out" / "report.html").read_text()
    assert loading in shown or not result.recommendation.adapter
    if result.recommendation.adapter and not writes:
        pair_module("t5").save_pretrained(tmp_path / "model")
        base = AutoModelForTextEncoding.from_pretrained(tmp_path / "model")
        PeftModel.from_pretrained(base, str(tmp_path / "out" / "adapter"))


@pytest.mark.slow
def test_the_command_line_takes_a_folder(tmp_path: Path) -> None:
    pair_module("bart").save_pretrained(tmp_path / "model")
    pair_tokenizer().save_pretrained(tmp_path / "model")
    rows = completions(40)
    lines = [json.dumps({"prompt": p, "completion": c}) for p, c in zip(rows.inputs, rows.answers, strict=True)]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    call = [str(tmp_path / "model"), str(tmp_path / "rows.jsonl"), "--budget", "quick", "--out", str(tmp_path / "out")]
    answer = CliRunner().invoke(cli.app, ["audit", *call, "--task", "seq2seq", "--quiet", "--json"])
    assert answer.exit_code in (0, 1, 3), answer.output
    assert json.loads(answer.stdout)["verdict"]


LIMITS = Limits(24, 12, 12, 16)


def test_a_prediction() -> None:
    methods = ["prompt", "prefix", "lora"]
    forecast = predict(pair_model("bart"), completions(40), methods, (2,), limits=LIMITS, quiet=True)
    assert [one.method for one in forecast] == methods


@pytest.mark.slow
def test_a_diagnosis() -> None:
    model, data = pair_model("bart"), completions(40)
    told = diagnose(model, data, tokens=(2, 4), steps=3, limits=LIMITS, quiet=True)
    assert told.verdict
