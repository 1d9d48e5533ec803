"""An adapter that somebody brings: the model as it reads, and what its folder tells."""

import json
from pathlib import Path

import pytest
import torch

from helpers.audit_cases import save_model
from helpers.models import tiny_model
from promptreach.errors import AdapterError
from promptreach.hf import open_model, save_adapter
from promptreach.hf.adapters.brought import bring
from promptreach.hf.adapters.places import CONFIG
from promptreach.prompt import SoftPrompt


def adapter(folder: Path, base: str | None) -> Path:
    saved = save_adapter(folder, tiny_model("llama"), SoftPrompt(torch.randn(3, 32)))
    settings = json.loads((saved / CONFIG).read_text())
    (saved / CONFIG).write_text(json.dumps({**settings, "base_model_name_or_path": base}))
    return saved


@pytest.mark.parametrize(
    ("named", "other"),
    [
        ("somebody/other-7b", "somebody/other-7b"),
        ("/elsewhere/llama", ""),  # the same name at another place
        ("somebody/LLAMA", ""),
        ("", ""),
        (None, ""),
    ],
)
def test_another_base_is_told(tmp_path: Path, named: str | None, other: str) -> None:
    save_model(tmp_path / "llama", "llama")
    model = open_model(tmp_path / "llama")
    brought = bring(adapter(tmp_path / "a", named), model)
    assert brought.other_base == other
    assert brought.model is model
    assert (brought.pooling, brought.classifier, brought.added_tokens) == (None, None, ())


def test_its_own_tokens_are_read(tmp_path: Path) -> None:
    model = tiny_model("llama")
    folder = adapter(tmp_path / "a", None)
    tokenizer = tiny_model("llama").tokenizer
    tokenizer.add_tokens(["<q>"])
    tokenizer.save_pretrained(folder)
    brought = bring(folder, model)
    assert brought.added_tokens == ("<q>",)
    assert brought.model.tokenize(["<q>"]) != model.tokenize(["<q>"])


@pytest.mark.parametrize("place", ["nowhere", "."])
def test_a_wrong_place_is_an_adapters_fault(tmp_path: Path, place: str) -> None:
    with pytest.raises(AdapterError):
        bring(tmp_path / place, tiny_model("llama"))
