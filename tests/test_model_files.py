"""Faults of a model's files, told from names and first bytes."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from promptreach.model_files import folder_faults, gguf_faults, json_faults, pickle_fault, safetensors_faults


def test_a_whole_file_has_no_fault_and_a_cut_one_has(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    save_file({"a": torch.zeros(3)}, file)
    assert safetensors_faults(file) == []
    file.write_bytes(file.read_bytes()[:-1])
    assert "as its header says" in str(safetensors_faults(file)[0])


def test_a_folder_lacks_all_at_once(tmp_path: Path) -> None:
    text = " ".join(map(str, folder_faults(tmp_path)))
    for part in ("config.json", "no weights", "no tokenizer"):
        assert part in text
    assert len(folder_faults(tmp_path, needs_tokenizer=False)) == 2
    (tmp_path / "adapter_config.json").write_text("{}")
    assert "an adapter" in str(folder_faults(tmp_path)[0])


@pytest.mark.parametrize("content", ["[1]", "{"])
def test_json_that_is_no_object(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    assert len(json_faults(tmp_path / "config.json")) == 1


def test_other_kinds_of_weights(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"nope")
    assert "GGUF" in str(gguf_faults(tmp_path / "model.gguf")[0])
    assert "pickle" in str(pickle_fault(tmp_path / "pytorch_model.bin"))
