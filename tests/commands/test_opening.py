"""The lines that open a model do open the same one."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from helpers.audit_cases import save_model
from helpers.pairs import pair_module, pair_tokenizer
from promptreach.commands.opening import auto_class, config_lines, opened_at, opening_call, place_of
from promptreach.hf import open_model


@pytest.mark.parametrize(
    ("family", "options", "name"),
    [
        ("bert", {}, "AutoModel"),
        ("llama", {"num_layers": 1}, "AutoModelForCausalLM"),
        ("gpt2", {}, "AutoModelForCausalLM"),
    ],
)
def test_the_same_model_opens(family: str, options: dict[str, Any], name: str, tmp_path: Path) -> None:
    save_model(tmp_path, family)
    model = open_model(tmp_path, **options)
    place = opened_at(model)
    assert auto_class(model) == name
    assert place == repr(str(tmp_path))
    known: dict[str, Any] = {**vars(transformers), "torch": torch}
    exec("\n".join([*config_lines(model, place), f"model = {opening_call(model, place)}"]), known)
    ids = torch.tensor([[4, 5, 6]])
    with torch.no_grad():
        assert torch.equal(known["model"].eval()(input_ids=ids)[0], model.release()(input_ids=ids)[0])


def test_an_encoder_decoder_that_is_read_is_its_encoder(tmp_path: Path) -> None:
    pair_module("bart").save_pretrained(tmp_path)
    pair_tokenizer().save_pretrained(tmp_path)
    model = open_model(tmp_path).reading
    place = opened_at(model)
    assert opening_call(model, place, reads=True).endswith(".get_encoder()")
    assert not opening_call(model, place).endswith(".get_encoder()")


@pytest.mark.parametrize(
    ("base", "revision", "expected"),
    [
        ("owner/base", None, "'owner/base'"),
        ("owner/base", "abc", "'owner/base', revision='abc'"),
        ("/models/it's.gguf", None, "'/models', gguf_file=\"it's.gguf\""),
    ],
)
def test_a_place_is_what_from_pretrained_takes(base: str, revision: str | None, expected: str) -> None:
    assert place_of(base, revision) == expected
