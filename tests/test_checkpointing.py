"""Layers that compute again what they did not keep: the same values and gradients, from less memory."""

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from helpers.families import small_module
from helpers.models import tiny_model
from helpers.reach import answer
from promptreach.checkpointing import recomputed
from promptreach.hf import OpenModel, open_model
from promptreach.training.methods.methods import METHODS, Shape

WORDS = [[5, 12, 19, 26, 33, 30], [7, 24, 31]]
CASES = [
    *(("llama", method) for method in ("prompt", "prefix", "lora", "unipelt", "full")),
    *((family, method) for family in ("bert", "gpt2", "mistral") for method in ("prompt", "prefix", "lora")),
    *((family, method) for family in ("t5", "bart") for method in ("prompt", "prefix", "lora")),
    *((family, method) for family in ("distilbert", "gemma3_text", "qwen2_moe") for method in ("prompt", "prefix")),
]


@pytest.fixture(autouse=True)
def words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("helpers.reach.SEQUENCES", WORDS)


def opened(family: str) -> OpenModel:
    known = family in ("llama", "bert", "gpt2", "mistral")
    return tiny_model(family) if known else open_model(small_module(family))


def gradients(model: OpenModel, method: str) -> tuple[list[Tensor], int]:
    """The gradients of everything trained, and the bytes that the forward pass kept."""
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    init = next(init for init in METHODS[method].inits if not model.lacks(method, init))
    shape = Shape(tokens=3, rank=2, bottleneck=4, init=init)
    with METHODS[method].attach(model, shape, WORDS) as trainable:
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for tensor in trainable.parameters.values():  # LoRA's second factor starts at zero
                tensor += 0.1 * torch.randn(tensor.shape, generator=generator)
        with saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = answer(model, trainable.joined_for(2, 0)).square().mean()
        loss.backward()
        found = [tensor.grad for tensor in trainable.parameters.values() if tensor.grad is not None]
        return [gradient.clone() for gradient in found], sum(kept.values())


@pytest.mark.parametrize(("family", "method"), CASES)
def test_the_same_gradients(family: str, method: str) -> None:
    model = opened(family)
    expected, whole = gradients(model, method)
    model.checkpointing = True
    found, less = gradients(model, method)
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)
    door = method == "prefix" and model.traits.prefix_by == "door"
    assert less == whole if door else less < whole


def test_the_layers_are_what_they_were() -> None:
    layers = [nn.Linear(2, 2), nn.Linear(2, 2)]
    own = layers[1].forward
    vars(layers[1])["forward"] = own
    with recomputed(layers):
        assert "forward" in vars(layers[0])
        layers[1](layers[0](torch.ones(1, 2))).sum().backward()
    assert "forward" not in vars(layers[0])
    assert vars(layers[1])["forward"] is own
    with torch.no_grad(), recomputed(layers):
        assert "forward" not in vars(layers[0])


def test_it_is_an_option_of_opening() -> None:
    assert open_model(small_module("t5"), gradient_checkpointing=True).reading.checkpointing
    assert not open_model(small_module("t5")).checkpointing
