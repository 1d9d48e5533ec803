"""``promptreach shrink`` on a tiny model: what it writes, prints and refuses."""

import json
import shutil
from pathlib import Path

import pytest

from helpers.command_line import run, saved_model, saved_prompt, saved_text
from promptreach.hf import load_adapter, open_model
from promptreach.prompt import Prefix


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A model, an adapter that names it, and a text."""
    base = tmp_path_factory.mktemp("cli")
    saved_prompt(base / "adapter", saved_model(base / "model"))
    return base / "model", base / "adapter", saved_text(base / "text.txt", 12)


@pytest.mark.parametrize("own_text", [True, False])
def test_shrink_writes_a_shorter_prefix_for_the_model_that_the_adapter_names(
    folders: tuple[Path, Path, Path], own_text: bool, tmp_path: Path
) -> None:
    model, adapter, text = folders
    given = ["--text", text] if own_text else []
    status, out, _ = run("shrink", adapter, "--tokens", 3, "--steps", 2, "--out", tmp_path / "small", "--json", *given)
    assert status == 0
    values = json.loads(out)["values"]
    assert (values["full_slots"], values["slots"]) == (9, 3)
    small = load_adapter(tmp_path / "small", open_model(model))
    assert isinstance(small, Prefix)
    assert small.length == 3


def test_shrink_prints_losses_and_where_it_went(folders: tuple[Path, Path, Path], tmp_path: Path) -> None:
    _, adapter, text = folders
    arguments = ("shrink", adapter, "--tokens", 4, "--steps", 1, "--text", text, "--out", tmp_path / "a")
    status, out, _ = run(*arguments, "--budgets", "by head")
    assert status == 0
    assert "nats" in out
    assert str(tmp_path / "a") in out.replace("\n", "")


def test_shrink_refuses_with_every_reason(folders: tuple[Path, Path, Path], tmp_path: Path) -> None:
    _, adapter, text = folders
    status, _, err = run("shrink", adapter, "--tokens", 9, "--text", text)
    assert (status, "fewer than the prefix has" in err) == (2, True)
    status, _, err = run("shrink", adapter, "--tokens", 3, "--text", tmp_path / "a", "--text", tmp_path / "b")
    assert (status, err.count("no such file")) == (2, 2)
    assert run("shrink", tmp_path / "nothing", "--tokens", 3)[0] == 2
    assert run("shrink", adapter)[0] == 2


def test_shrink_of_the_folder_it_stands_in_writes_beside_it(
    folders: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, adapter, text = folders
    shutil.copytree(adapter, tmp_path / "mine")
    monkeypatch.chdir(tmp_path / "mine")
    assert run("shrink", ".", "--tokens", 4, "--steps", 1, "--text", text)[0] == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "mine-4"]
    assert load_adapter(tmp_path / "mine-4", open_model(model)).length == 4
    assert run("shrink", ".", "--tokens", 4, "--steps", 1, "--text", text)[0] == 0  # an adapter is replaced


def test_shrink_leaves_a_folder_with_something_else_before_it_works(
    folders: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("promptreach.commands.shrink.open_model", lambda *_, **__: pytest.fail("it was opened"))
    (tmp_path / "thesis.tex").write_text("years of work")
    status, _, err = run("shrink", folders[1], "--tokens", 4, "--out", tmp_path)
    assert (status, "with something in it" in err) == (2, True)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
