"""What a prompt is worth as a change of weights, against attention written out and against changes that are made."""

import dataclasses

import pytest
import torch

from helpers.models import tiny_model
from promptreach import attention
from promptreach.audit.checks.weight_change import (
    MOST_TOKENS,
    LayerWorth,
    first_tokens,
    sentence,
    without_and_with,
    worth_of,
)
from promptreach.backbone import Prepended, TokenBatch
from promptreach.errors import UnsupportedModelError
from promptreach.hf import capture, layer_weights


def captured(family: str):
    model = tiny_model(family)
    batch = model.batch(model.tokenize(["the cat sat on the mat", "a dog ran"]))
    draw = torch.Generator().manual_seed(1)
    prompt = torch.randn(3, model.hidden_size, generator=draw)
    return model, batch, capture(model, batch, Prepended(prompt=prompt))


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama", "mistral"])
def test_the_heads_with_the_prompt_are_the_models_own_and_without_it_softmax_over_the_content(family: str) -> None:
    _, batch, layers = captured(family)
    for layer in layers:
        bare, both = without_and_with(layer, batch.mask)
        content = batch.mask.shape[1]
        own = layer.output[:, :, -content:].transpose(1, 2)[batch.mask].flatten(1).double()
        torch.testing.assert_close(both, own, rtol=1e-4, atol=1e-5)
        alone = attention.split(
            layer.query[:, :, -content:],
            layer.key[:, :, 3:],
            layer.value[:, :, 3:],
            layer.key[:, :, :3],
            layer.value[:, :, :3],
            scale=layer.scale,
            mask=layer.mask[:, :, -content:, 3:],
        ).content
        alone = alone.transpose(1, 2)[batch.mask].flatten(1).double()
        torch.testing.assert_close(bare, alone, rtol=1e-4, atol=1e-5)


def test_a_layers_worth_is_what_changes_of_its_projection_leave() -> None:
    model, batch, layers = captured("bert")
    outputs = [layer_weights(model, index).attention.output for index in range(model.num_layers)]
    for layer in layers:
        found = worth_of(layer, batch.mask, outputs, rank=2)
        bare, both = without_and_with(layer, batch.mask)
        wanted = (both - bare) @ outputs[layer.layer].double().mT
        change = torch.linalg.pinv(bare) @ wanted
        turned, sizes, across = torch.linalg.svd(bare @ change, full_matrices=False)
        left = [float(((turned[:, :r] * sizes[:r]) @ across[:r] - wanted).norm() / wanted.norm()) for r in range(12)]
        assert found.by_lora == pytest.approx(left[2], rel=1e-6)
        assert found.rank is not None
        assert left[found.rank] <= 0.1 < left[found.rank - 1]
        assert found.by_any == 0
        assert found.most == int(batch.mask.sum())
        assert found.size == pytest.approx(float(wanted.norm() / (bare @ outputs[layer.layer].double().mT).norm()))


def test_more_tokens_than_directions_leave_what_no_rank_does() -> None:
    _, batch, (layer, *_) = captured("bert")
    flat = dataclasses.replace(layer, value=layer.value * torch.tensor([1.0] + [0.0] * 7))
    found = worth_of(flat, batch.mask, [None, None], rank=2)
    assert found.by_any > 0.01


@pytest.mark.parametrize(
    ("counts", "asked"), [([300, 200, 100], [300, 200, 12]), ([900, 1], [512]), ([5, 5], [5, 5]), ([512, 9], [512])]
)
def test_the_first_tokens_are_looked_at_and_no_more_than_the_most(counts: list[int], asked: list[int]) -> None:
    mask = torch.arange(max(counts)) < torch.tensor(counts)[:, None]
    batch, found = first_tokens(TokenBatch(torch.zeros(mask.shape, dtype=torch.long), mask))
    assert found.sum(1).tolist() == asked
    assert len(batch.mask) == len(asked)
    assert MOST_TOKENS == 512


def test_attention_with_more_than_a_softmax_is_refused() -> None:
    _, batch, (layer, *_) = captured("gpt2")
    with pytest.raises(UnsupportedModelError, match="soft-cap"):
        without_and_with(dataclasses.replace(layer, softcap=30.0), batch.mask)


def test_the_sentence_tells_layers_that_no_rank_does_and_prompts_that_do_nothing() -> None:
    none, some, nothing = (
        LayerWorth(0.5, None, 0.8, 0.4, 19),
        LayerWorth(0.5, 3, 0.2, 0.0, 19),
        LayerWorth(0.0, 0, 0.0, 0.0, 19),
    )
    assert sentence("prompt", [none, none], 2) == "prompt is no such change, of whatever rank"
    assert sentence("prompt", [nothing, nothing], 2) == "prompt adds nothing anywhere"
    assert "none in 1 of 2 layers" in sentence("prompt", [none, some], 2)
