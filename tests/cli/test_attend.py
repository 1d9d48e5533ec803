"""``promptreach attend`` on a tiny model: what it prints and refuses."""

import json
from pathlib import Path

import pytest

from helpers.command_line import run, saved_model, saved_prompt, saved_text


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A model, an adapter that names it, and a text."""
    base = tmp_path_factory.mktemp("cli")
    saved_prompt(base / "adapter", saved_model(base / "model"))
    return base / "model", base / "adapter", saved_text(base / "text.txt", 12)


@pytest.mark.parametrize("behind", [True, False])
def test_attend_shows_every_head(folders: tuple[Path, Path, Path], behind: bool) -> None:
    model, adapter, text = folders
    given = ["--adapter", adapter, "--text", text] if behind else []
    status, out, _ = run("attend", model, "--tokens", 32, "--json", *given)
    assert status == 0
    values = json.loads(out)["values"]
    assert values["prompt_length"] == (9 if behind else 0)
    assert [(row["layer"], row["head"]) for row in values["table"]] == [(i, j) for i in range(2) for j in range(4)]
    assert all(row["error"] >= 0 and row["method"] for row in values["table"])
    assert sum(values["methods"].values()) == values["heads"] == 8


def test_attend_prints_a_table(folders: tuple[Path, Path, Path]) -> None:
    status, out, _ = run("attend", folders[0], "--tokens", 16)
    assert status == 0
    assert "Every head" in out


def test_attend_refuses_with_every_reason(folders: tuple[Path, Path, Path], tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("the cat", encoding="utf-8")
    status, _, err = run("attend", folders[0], "--tokens", 65, "--tol", 0, "--text", tmp_path / "short.txt")
    assert status == 2
    assert all(f"promptreach: {name}" in err for name in ("tokens", "text", "tol"))
