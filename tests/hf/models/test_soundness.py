"""Weights that are not numbers are named when a model is opened, and tokens without a row when they occur."""

from pathlib import Path

import pytest
import torch

from helpers.models import VOCABULARY, tiny_model, tiny_module, tiny_tokenizer
from promptreach.errors import InputError, ModelError
from promptreach.hf import OpenModel, open_model

BROKEN = {
    "llama": "model.layers.1.mlp.down_proj.weight",
    "gpt2": "transformer.h.0.mlp.c_proj.bias",
    "bert": "encoder.layer.1.output.LayerNorm.weight",
}


def saved(folder: Path, family: str, value: float, count: int = 1) -> Path:
    module = tiny_module(family)
    module.get_parameter(BROKEN[family]).data.view(-1)[:count] = value
    module.save_pretrained(folder)
    tiny_tokenizer(family).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("family", BROKEN)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_weight_that_is_no_number_is_named(tmp_path: Path, family: str, value: float) -> None:
    with pytest.raises(ModelError, match=f"'{BROKEN[family]}' with 3 of"):
        open_model(saved(tmp_path / "m", family, value, 3))


def test_a_module_in_memory_is_looked_at_as_well() -> None:
    module = tiny_module("llama")
    module.get_parameter(BROKEN["llama"]).data[0, 0] = float("nan")
    with pytest.raises(ModelError, match=BROKEN["llama"]):
        open_model(module, tokenizer=tiny_tokenizer("llama"))


def test_a_weight_too_large_for_half_precision(tmp_path: Path) -> None:
    folder = saved(tmp_path / "m", "gpt2", 7e4)
    with pytest.raises(ModelError, match="Open it in float32"):
        open_model(folder, dtype=torch.float16)
    assert open_model(folder, dtype=torch.float32).family == "gpt2"


def test_many_are_counted(tmp_path: Path) -> None:
    module = tiny_module("llama")
    for parameter in module.parameters():
        parameter.data.fill_(float("nan"))
    with pytest.raises(ModelError) as error:
        open_model(module, tokenizer=tiny_tokenizer("llama"))
    assert len(error.value.faults) == 6
    assert "more weights like that" in str(error.value)


@pytest.mark.parametrize("family", ["llama", "bert", "roberta"])
def test_a_padding_token_needs_no_row(family: str) -> None:
    model = tiny_model(family)
    model.tokenizer.add_tokens([f"<{i}>" for i in range(VOCABULARY)])
    model.tokenizer.add_special_tokens({"pad_token": "<|pad|>"})
    assert model.tokenizer.pad_token_id > VOCABULARY
    batch = model.batch(model.tokenize(["cat", "the cat sat"]))
    alone = model.hidden(model.batch(model.tokenize(["cat"])))
    assert torch.allclose(model.hidden(batch)[0, : alone.shape[1]], alone[0], atol=1e-5)


@pytest.mark.parametrize("texts", [["cat"], ["dog", "a <q> <a>"], ["<q>"]])
def test_a_token_without_a_row_is_named(texts: list[str]) -> None:
    model = tiny_model("llama", vocab_size=29)
    model.tokenizer.add_tokens(["<q>", "<a>"])
    if texts == ["cat"]:
        assert model.tokenize(texts)
        return
    with pytest.raises(InputError, match=r"31 tokens, where the model has 29 rows; without a row are .<q>. .29"):
        model.tokenize(texts)


def test_an_end_token_without_a_row_is_refused() -> None:
    model = tiny_model("llama", vocab_size=29)
    model.tokenizer.add_special_tokens({"eos_token": "<end>"})
    with pytest.raises(InputError, match="<end>"):
        _ = model.end_token


def test_another_tokenizer_stays_with_the_origin(tmp_path: Path) -> None:
    tiny_module("llama").save_pretrained(tmp_path)
    tiny_tokenizer("llama").save_pretrained(tmp_path)
    model = open_model(tmp_path)
    other = model.with_tokenizer(tiny_tokenizer("bert"))
    assert isinstance(other, OpenModel)
    assert other.origin is not None
    assert other.origin.options["tokenizer"] is other.tokenizer
    assert other.model is model.model
