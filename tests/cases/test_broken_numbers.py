"""A bare model whose own output is not finite is refused before anything is trained, naming the module that breaks."""

import pytest
import torch

from helpers.models import tiny_module, tiny_tokenizer
from helpers.tasks import completions, labelled
from promptreach.errors import InputError
from promptreach.hf import OpenModel, open_model
from promptreach.training.task.task import prepare

FAMILIES = {
    "gpt2": ("h.0.mlp.c_proj", 3.0e4),
    "llama": ("layers.1.mlp.down_proj", 6.0e4),
    "qwen2": ("layers.0.mlp.down_proj", 6.0e4),
}


def overflowing(family: str, dtype: torch.dtype) -> OpenModel:
    """A model all of whose weights are finite, and whose activations are not in half precision."""
    name, size = FAMILIES[family]
    module = tiny_module(family)
    prefix = "" if name in dict(module.named_modules()) else f"{module.base_model_prefix}."
    weight = module.get_submodule(prefix + name).weight
    weight.data.fill_(size)
    return open_model(module.to(dtype), tokenizer=tiny_tokenizer(family))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", ["completions", "labels"])
def test_activations_that_overflow_are_named(family: str, kind: str) -> None:
    data = completions(60) if kind == "completions" else labelled(60)
    with pytest.raises(InputError, match=rf"{FAMILIES[family][0]}.*Open it in float32"):
        prepare(overflowing(family, torch.float16), data)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_model_in_float32_is_taken(family: str) -> None:
    assert prepare(overflowing(family, torch.float32), completions(60)).held_out
