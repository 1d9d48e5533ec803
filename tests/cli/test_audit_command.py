"""The audit's command line: how it hands its options on, and the command that it shows for repeating the call."""

import importlib
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from helpers.sample_report import sample_result
from promptreach import cli
from promptreach.errors import Fault, InputError
from promptreach.report.verdict import TuningVerdict

COMMAND = importlib.import_module("promptreach.cli.audit")
"""The module: in its package the name stands for the command."""


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the audit is called with; it is refused each time, so that nothing is trained."""
    found: list[dict[str, Any]] = []

    def refuse(model: str, data: str, **options: Any) -> None:
        found.append({"model": model, "data": data, **options})
        raise InputError(Fault("data", "nothing", "rows"))

    monkeypatch.setattr("promptreach.audit.audit", refuse)
    monkeypatch.setattr(COMMAND, "look", lambda *given, **options: None)
    return found


def invoke(*arguments: str) -> int:
    return CliRunner().invoke(cli.app, ["audit", *arguments]).exit_code


def test_the_repeated_command_quotes_paths_with_blanks(calls: list[dict[str, Any]], tmp_path: Path) -> None:
    model, data, out = "my model", "it's data.csv", str(tmp_path / "a report")
    assert invoke(model, data, "--out", out, "--adapter", "an adapter", "--text-col", "the text") == 2
    again = calls[0]["again"]
    assert again != " ".join(shlex.split(again))
    words = shlex.split(again)
    assert words[:4] == ["promptreach", "audit", model, data]
    assert words[words.index("--adapter") + 1] == "an adapter"
    assert words[words.index("--text-col") + 1] == "the text"
    assert words[words.index("--out") + 1] == f"{out}-again"
    assert invoke(*words[2:]) == 2
    kept = ("model", "data", "adapter", "text_col", "label_col", "budget", "seed")
    assert [calls[1][name] for name in kept] == [calls[0][name] for name in kept]


def test_defaults_are_left_out_of_the_repeated_command(calls: list[dict[str, Any]]) -> None:
    invoke("model", "data.csv")
    assert calls[0]["again"] == (
        "promptreach audit model data.csv --budget standard --seed 0 --out promptreach-report-again"
    )
    assert calls[0]["dtype"] == "auto"
    assert (calls[0]["device"], calls[0]["engine"], calls[0]["quiet"]) == ("auto", "local", False)


def test_options_reach_the_audit_and_the_repeated_command(calls: list[dict[str, Any]]) -> None:
    given = ["--dtype", "bfloat16", "--device", "meta", "--num-layers", "2", "--task", "causal", "--engine", "ray"]
    invoke("model", "data.csv", *given, "--budget", "quick", "--json")
    call = calls[0]
    assert (call["dtype"], call["device"], call["num_layers"]) == (torch.bfloat16, "meta", 2)
    assert (call["task"], call["engine"], call["budget"], call["quiet"]) == ("causal", "ray", "quick", True)
    words = shlex.split(call["again"])
    assert all(words[words.index(name) + 1] == value for name, value in zip(given[::2], given[1::2], strict=True))


def test_a_word_that_is_no_choice_is_refused_before_any_work(calls: list[dict[str, Any]]) -> None:
    assert invoke("model", "data.csv", "--budget", "huge") == 2
    assert calls == []


def test_more_seeds_reach_the_audit_and_the_repeated_command(calls: list[dict[str, Any]]) -> None:
    invoke("model", "data.csv", "--seeds", "3")
    assert calls[0]["seeds"] == 3
    words = shlex.split(calls[0]["again"])
    assert words[words.index("--seeds") + 1] == "3"


@pytest.mark.parametrize(("given", "status"), [([], 1), (["--exit-zero"], 0)])
def test_a_verdict_ends_with_its_status_unless_scripts_ask_for_none(
    given: list[str], status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = sample_result().model_copy(update={"verdict": TuningVerdict.MORE_TOKENS})
    monkeypatch.setattr("promptreach.audit.audit", lambda *args, **options: result)
    monkeypatch.setattr(COMMAND, "look", lambda *given, **options: None)
    assert invoke("model", "data.csv", "--json", *given) == status


def test_a_wrong_call_ends_with_two_all_the_same(calls: list[dict[str, Any]]) -> None:
    assert invoke("model", "data.csv", "--exit-zero") == 2
