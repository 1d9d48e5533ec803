"""Folders go to the hub whole, and what stands against that is told before anything is trained."""

from pathlib import Path

import huggingface_hub
import pytest

from helpers.hub import hub_here
from promptreach.commands.publishing import publish, publishing_faults
from promptreach.errors import OutputError

BASE = "someone/some-model"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("adapter_config.json", "README.md"):
        (tmp_path / name).write_text(f"the {name}")
    return tmp_path


def test_a_folder_goes_up_whole_and_private_and_takes_the_place_of_the_last_one(folder: Path) -> None:
    with hub_here() as hub:
        assert publishing_faults("my-prompt", BASE) == []
        assert publish(folder, "my-prompt") == f"{hub.address}/somebody/my-prompt"
        assert hub.private == {"somebody/my-prompt": True}
        files = hub.repositories["somebody/my-prompt"]
        assert files["adapter_config.json"] == b"the adapter_config.json"
        (folder / "README.md").rename(folder / "load.py")
        assert publishing_faults("somebody/my-prompt", BASE) == []
        publish(folder, "somebody/my-prompt", private=False)
        assert set(files) == {".gitattributes", "adapter_config.json", "load.py"}
        publish(folder, "an-organisation/another", private=False)
        assert hub.private["an-organisation/another"] is False


def test_nothing_is_asked_where_nothing_is_published() -> None:
    assert publishing_faults(None, "") == []


def test_what_stands_against_it_is_told_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with hub_here() as hub:
        hub.repositories["somebody/a-dataset"] = {"data.csv": b"", "README.md": b""}
        hub.repositories["somebody/empty"] = {".gitattributes": b""}
        assert publishing_faults("empty", BASE) == []
        for repo, words in (("a-dataset", "holds data.csv"), ("another/x", "the owner 'another'"), ("a b", "'a b'")):
            assert [words in str(fault) for fault in publishing_faults(repo, BASE)] == [True]
        hub.role = "read"
        assert "may only read" in str(publishing_faults("x", BASE)[0])
        hub.refuses = 401
        assert "hf auth login" in publishing_faults("x", BASE)[0].remedy
        hub.refuses = 500
        assert "answers with an error" in str(publishing_faults("x", BASE)[0])
        there = publishing_faults("x", str(tmp_path))
        assert "--base-id" in there[0].remedy
        hub.refuses, hub.role = 0, "write"
        assert publishing_faults("x", str(tmp_path), BASE) == []
        assert len(publishing_faults("a b", str(tmp_path), "c d")) == 2
    with hub_here(token=None):
        assert "no token" in str(publishing_faults("x", BASE)[0])
    with hub_here(), monkeypatch.context() as patch:
        patch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
        assert "cannot be reached" in str(publishing_faults("x", BASE)[0])
        patch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        assert "HF_HUB_OFFLINE" in str(publishing_faults("x", BASE)[0])


def test_a_refusal_at_the_end_says_where_the_folder_is(folder: Path) -> None:
    with hub_here() as hub:
        hub.full = True
        with pytest.raises(OutputError, match="hf upload my-prompt"):
            publish(folder, "my-prompt")
    assert (folder / "adapter_config.json").is_file()
