"""An adapter's base is the one that is said, or the one that its folder names, if that is on this machine."""

import json
from pathlib import Path
from typing import Any

import pytest

from helpers.command_line import run, saved_model, saved_prompt
from promptreach.errors import AdapterError
from promptreach.hf.adapters import inspection
from promptreach.hf.adapters.inspection import base_of_folder

NOBODYS = "nobody/has-this"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    saved_prompt(tmp_path / "adapter", saved_model(tmp_path / "model"))
    return tmp_path / "adapter"


def change(folder: Path, **changes: Any) -> None:
    file = folder / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_what_is_said_comes_first_and_else_what_the_folder_names(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert base_of_folder(folder, None, None) == (str(folder.parent / "model"), None)
    assert base_of_folder(folder, NOBODYS, "v2") == (NOBODYS, "v2")
    change(folder, base_model_name_or_path=NOBODYS, revision="v1")
    monkeypatch.setattr(inspection, "at_hand", lambda name, revision: (name, revision) == (NOBODYS, "v1"))
    assert base_of_folder(folder, None, None) == (NOBODYS, "v1")
    with pytest.raises(AdapterError, match="not on this machine"):
        base_of_folder(folder, None, "v2")


@pytest.mark.parametrize(
    ("named", "words"), [(NOBODYS, "the base nobody/has-this, which is not on this machine"), (None, "no base model")]
)
def test_every_command_refuses_a_base_that_is_not_here_alike(
    folder: Path, named: str | None, words: str, tmp_path: Path
) -> None:
    change(folder, base_model_name_or_path=named)
    with pytest.raises(AdapterError, match=words):
        base_of_folder(folder, None, None)
    out = ("--out", tmp_path / "out")
    for call in (("shrink", folder, "--tokens", 2, *out), ("export", folder, "--for", "vllm", *out)):
        status, _, err = run(*call)
        remedied = "--model" in err or "base_model_name_or_path" in err
        assert (status, words in err, remedied) == (2, True, True), err
    _, said, _ = run("inspect", folder)
    assert words in " ".join(said.split())
    assert "UNKNOWN" in said
