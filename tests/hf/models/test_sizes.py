"""Sizes from configs that name them otherwise, and from modules where configs are silent."""

import pytest
import torch
from transformers import PretrainedConfig

from helpers.families import small_module
from helpers.models import tiny_module
from promptreach.errors import ModelError
from promptreach.hf import OpenModel
from promptreach.hf.models.sizes import body_of, head_count, inner_parameters, layer_count, layers_of, size_faults


@pytest.mark.parametrize("family", ["distilbert", "gpt2", "bloom", "mpt", "llama"])
def test_names_of_sizes_do_not_matter(family: str) -> None:
    module = small_module(family)
    assert (layer_count(module.config), head_count(module.config)) == (2, 4)
    assert len(layers_of(body_of(module), 2)) == 2


def test_an_embedding_may_be_narrower_than_the_states() -> None:
    model = OpenModel(small_module("electra", embedding_size=16), name="electra")
    assert (model.embedding_size, model.hidden_size) == (16, 32)
    assert model.vocabulary.shape[1] == 16


def test_layers_that_are_one_module_many_times() -> None:
    module = small_module("albert")
    assert layers_of(body_of(module), 2) == []
    inside = {id(weight) for weight in inner_parameters(module)}
    assert id(module.get_input_embeddings().weight) not in inside
    assert inside


def test_a_body_that_is_named_otherwise() -> None:
    module = small_module("llama4_text")
    assert module.base_model is module
    assert body_of(module) is module.model


def test_a_config_without_sizes_is_refused() -> None:
    named = " ".join(map(str, size_faults(PretrainedConfig())))
    assert "hidden_size missing" in named
    assert "num_hidden_layers missing" in named
    module = tiny_module("llama")
    vars(module.config)["num_hidden_layers"] = None  # past the check that transformers makes of it
    with pytest.raises(ModelError, match="num_hidden_layers"):
        OpenModel(module)


def test_a_padding_id_without_a_row_pads_all_the_same() -> None:
    class Padded:
        pad_token_id = 96

    model = OpenModel(small_module("llama"), Padded(), name="llama")
    batch = model.batch([[5, 6], [7]])
    assert torch.equal(batch.input_ids, torch.tensor([[5, 6], [7, 0]]))
