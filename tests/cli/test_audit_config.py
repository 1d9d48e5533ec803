"""The audit's further options: lists with commas, a YAML file behind the command line, and all faults at once."""

import importlib
import os
import shlex
from pathlib import Path
from typing import Any

import pytest

from helpers.command_line import run
from promptreach.errors import Fault, InputError

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


CHOICES = (
    *("--methods", "prompt,lora", "--tokens", "4,16", "--tokens", "64", "--rank", "4", "--lora-targets", "q_proj"),
    *("--steps", "9", "--batch-size", "8", "--max-length", "99", "--seeds", "2", "--learning-rates", "lora=1e-3,2e-3"),
)


def test_choices_reach_the_audit_and_the_shown_command(calls: list[dict[str, Any]]) -> None:
    given = [*CHOICES[:-1], "lora=1e-3,lora=2e-3"]
    assert run("audit", "model", "data.csv", *given)[0] == 2
    shown = shlex.split(calls[0]["again"])
    assert run(*shown[1:])[0] == 2
    for call in calls:
        assert call["methods"] == ("prompt", "lora")
        assert call["tokens"] == (4, 16, 64)
        assert (call["rank"], call["steps"], call["batch_size"], call["max_length"], call["seeds"]) == (4, 9, 8, 99, 2)
        assert call["lora_targets"] == ("q_proj",)
        assert call["learning_rates"] == {"lora": (1e-3, 2e-3)}


def test_a_file_gives_what_the_command_line_does_not(calls: list[dict[str, Any]], tmp_path: Path) -> None:
    file = tmp_path / "audit.yaml"
    file.write_text(
        "model: a-model\ndata: rows.csv\nbudget: quick\ntokens: [2, 4]\nmethods: lora\nbatch-size: 8\nseed: 3\n"
        "learning_rates: {lora: [1e-3, 0.01]}\nquiet: true\n"
    )
    assert run("audit", "--config", file, "--seed", "5", "--tokens", "9")[0] == 2
    call = calls[0]
    assert (call["model"], call["data"], call["budget"], call["batch_size"]) == ("a-model", "rows.csv", "quick", 8)
    assert (call["seed"], call["tokens"], call["methods"], call["quiet"]) == (5, (9,), ("lora",), True)
    assert call["learning_rates"] == {"lora": (1e-3, 1e-2)}


def test_everything_wrong_with_a_file_is_named_at_once(tmp_path: Path) -> None:
    file = tmp_path / "audit.yaml"
    file.write_text("stepz: 3\ntokens: [4, x]\nbudget: huge\nseed: true\n")
    status, _, said = run("audit", "m", "d", "--config", file)
    assert status == 2
    assert "the unknown key 'stepz'; expected an option of audit. Did you mean 'steps'?" in said
    assert "tokens: [4, 'x']; expected a valid integer" in said
    assert "budget: 'huge'; expected 'quick', 'standard' or 'thorough'" in said
    assert "seed: True; expected a valid integer" in said


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tokens: [2]\ntokens: [4]\n", "'tokens' twice; expected each key once"),
        ("text-col: a\ntext_col: b\n", "'text_col' twice"),
        ("learning_rates: {lora: 1e-3, lora: 1e-2}\n", "'lora' twice"),
        ("learning_rates: true\n", "learning_rates: True; expected"),
        ("tokens: []\n", "tokens: []; expected"),
        ("methods: []\nlora_targets: []\n", "lora_targets: []; expected"),
        ("learning_rates: {prompt: []}\n", "learning_rates: {'prompt': []}; expected"),
    ],
)
def test_what_would_silently_be_another_choice_is_refused(text: str, expected: str, tmp_path: Path) -> None:
    file = tmp_path / "audit.yaml"
    file.write_text(text)
    status, _, said = run("audit", "m", "d", "--config", file)
    assert status == 2
    assert expected in said


@pytest.mark.parametrize("given", [("--options", "a=x,a=y,b=z"), ("--class-weights", "a=1,a=2,b=1")])
def test_a_name_that_is_given_twice_is_refused(given: tuple[str, str]) -> None:
    status, _, said = run("audit", "m", "d", *given)
    assert (status, f"{given[0]}: 'a' twice; expected each once" in said) == (2, True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("- a\n- b\n", "a list; expected keys and values"), ("a: [", "no YAML"), (None, "No such file")],
)
def test_what_is_no_file_of_options_is_refused(text: str | None, expected: str, tmp_path: Path) -> None:
    file = tmp_path / "audit.yaml"
    if text is not None:
        file.write_text(text)
    status, _, said = run("audit", "m", "d", "--config", file)
    assert status == 2
    assert expected in said


def test_a_file_that_unfolds_or_never_ends_is_refused(tmp_path: Path) -> None:
    unfolds = tmp_path / "unfolds.yaml"
    lines = ["x0: &x0 [a, a, a, a, a, a, a, a, a]"] + [
        f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 9)}]" for n in range(1, 12)
    ]
    unfolds.write_text("\n".join(lines))
    endless, long = tmp_path / "endless.yaml", tmp_path / "long.yaml"
    os.mkfifo(endless)
    long.write_text(f"model: {'a' * 2**20}\n")
    for file, said in ((unfolds, "an alias"), (endless, "not a regular file"), (long, "of at most 1,048,576 bytes")):
        status, _, error = run("audit", "m", "d", "--config", file)
        assert status == 2
        assert said in error


def test_words_that_are_no_numbers_are_named_with_the_rest() -> None:
    status, _, said = run(
        "audit", "./nowhere", "./none.csv", "--tokens", "4,x", "--learning-rates", "1,lora=2", "--steps", "0"
    )
    assert status == 2
    for expected in ("--tokens: 'x'", "--learning-rates: '1,lora=2'", "steps: 0", "./nowhere: nothing there"):
        assert expected in said


def test_the_file_knows_the_options_of_the_command(calls: list[dict[str, Any]], tmp_path: Path) -> None:
    options = set(COMMAND.audit.__annotations__) - {"return", "config", "json", "model", "data"}
    file = tmp_path / "audit.yaml"
    file.write_text("".join(f"{name}: null\n" for name in options))
    assert run("audit", "m", "d", "--config", file)[0] == 2
    assert len(calls) == 1
