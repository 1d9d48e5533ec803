"""``promptreach inspect`` on folders of a tiny model: what it prints, its exit status, and what it refuses."""

import json
import shutil
from pathlib import Path

import pytest

from helpers.command_line import run, saved_model, saved_prompt


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model, and an adapter that names it."""
    base = tmp_path_factory.mktemp("cli")
    saved_prompt(base / "adapter", saved_model(base / "model"))
    return base / "model", base / "adapter"


def test_a_sound_folder_is_described_and_exits_with_0(folders: tuple[Path, Path]) -> None:
    status, out, _ = run("inspect", folders[1])
    assert status == 0
    for words in ("A prompt of 9 virtual tokens", "base agree", "vocabulary row", "vLLM", "llama.cpp", "READ in"):
        assert words in out


def test_faults_are_listed_and_exit_with_2(folders: tuple[Path, Path], tmp_path: Path) -> None:
    adapter = shutil.copytree(folders[1], tmp_path / "a")
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(config | {"num_virtual_tokens": 4, "token_dim": 7}))
    status, out, _ = run("inspect", adapter, "--json")
    record = json.loads(out)
    assert (status, len(record["values"]["faults"]), record["values"]["agrees"]) == (2, 2, False)


def test_a_base_that_is_not_here_leaves_agreement_open(folders: tuple[Path, Path], tmp_path: Path) -> None:
    adapter = shutil.copytree(folders[1], tmp_path / "a")
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": "nobody/has-this"}))
    status, out, _ = run("inspect", adapter)
    assert status == 0
    assert "UNKNOWN" in out
    assert "not on this machine" in " ".join(out.split())
    values = json.loads(run("inspect", adapter, "--model", folders[0], "--json")[1])["values"]
    assert (values["agrees"], values["base_checked"], values["effect"] > 0) == (True, True, True)


def test_what_is_no_adapter_is_refused(tmp_path: Path) -> None:
    assert run("inspect", tmp_path)[0] == 2
    status, _, err = run("inspect", tmp_path / "nothing", "--model", tmp_path / "no model")
    assert (status, len(err.splitlines())) == (2, 2)
