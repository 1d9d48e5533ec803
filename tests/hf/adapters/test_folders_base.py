"""The base that a saved adapter names: found again from anywhere, at the commit that was opened."""

import json
from pathlib import Path

import huggingface_hub
import pytest
import torch

from helpers.command_line import saved_model
from promptreach.hf import open_model, save_adapter
from promptreach.prompt import SoftPrompt


def named(folder: Path) -> tuple[str, str | None, str]:
    """Base, revision and start in a folder's config."""
    config = json.loads((folder / "adapter_config.json").read_text())
    return config["base_model_name_or_path"], config["revision"], config["prompt_tuning_init"]


def test_a_folder_is_named_by_its_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved_model(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    save_adapter("a", open_model("model"), SoftPrompt(torch.ones(2, 32)), init="vocabulary", card="# A card\n")
    assert named(tmp_path / "a") == (str(tmp_path / "model"), None, "SAMPLE_VOCAB")
    assert (tmp_path / "a" / "README.md").read_text() == "# A card\n"


def test_a_hub_id_is_named_with_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    repository, commit = tmp_path / "models--someone--some-model", "0123456789" * 4
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    saved_model(repository / "snapshots" / commit)
    save_adapter(tmp_path / "a", open_model("someone/some-model"), SoftPrompt(torch.ones(2, 32)))
    assert named(tmp_path / "a") == ("someone/some-model", commit, "RANDOM")
