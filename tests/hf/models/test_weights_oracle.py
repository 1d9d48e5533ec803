"""Extracted weights, run through the reference transformer, give what the model's own layers give."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from helpers.models import FAMILIES, tiny_model
from helpers.tolerances import assert_close
from promptreach import reference
from promptreach.errors import InputError, UnsupportedModelError
from promptreach.hf import OpenModel, capture, final_norm, layer_weights
from promptreach.weights import LayerWeights

ABSOLUTE = ("bert", "roberta", "gpt2")
ROTARY = ("llama", "qwen2", "qwen3", "mistral")


def quantity(family: str) -> str:
    return "layer output after a float32 norm" if family in ROTARY else "layer output"


def doubled(family: str, **overrides: object) -> OpenModel:
    model = tiny_model(family, **overrides)
    model.model.double()
    return model


def states_around(model: OpenModel, token_ids: list[int]) -> list[tuple[Tensor, Tensor]]:
    """Each layer's input and output in a plain forward pass over one sequence."""
    seen: list[tuple[Tensor, Tensor]] = []

    def note(module: object, inputs: tuple[Tensor, ...], output: Tensor | tuple[Tensor, ...]) -> None:
        seen.append((inputs[0][0], (output if isinstance(output, Tensor) else output[0])[0]))

    hooks = [layer.register_forward_hook(note) for layer in model.layers]
    with torch.no_grad():
        model.hidden(model.batch([token_ids]))
    for hook in hooks:
        hook.remove()
    return [(before.reshape(-1, model.hidden_size), after.reshape(-1, model.hidden_size)) for before, after in seen]


def unrotated(weights: LayerWeights) -> LayerWeights:
    """The same layer without its rotation, which at position 0 is the identity."""
    return replace(weights, attention=replace(weights.attention, rotary=False))


@pytest.mark.parametrize("family", ABSOLUTE)
def test_layers_with_absolute_positions(family: str) -> None:
    model = doubled(family)
    for (before, after), weights in zip(states_around(model, [4, 9, 5, 11, 6]), layer_weights(model), strict=True):
        assert_close(reference.layer(weights, before), after, quantity(family))


@pytest.mark.parametrize("family", ROTARY)
def test_rotary_layers_at_position_zero(family: str) -> None:
    biases = {"attention_bias": True, "mlp_bias": True} if family == "llama" else {}
    model = doubled(family, **biases)
    for (before, after), weights in zip(states_around(model, [9]), layer_weights(model), strict=True):
        assert weights.attention.rotary
        assert_close(reference.layer(unrotated(weights), before), after, quantity(family))


@pytest.mark.parametrize("family", FAMILIES)
def test_projections_are_those_of_the_captured_queries_and_keys(family: str) -> None:
    """Checked at position 0, without attention: over one token its softmax would hide the queries and keys."""
    model = doubled(family)
    (before, _), *_ = states_around(model, [9])
    weights = layer_weights(model, 0)
    if weights.norm_position == "pre":
        before = reference._each(weights.attention_norm, before)
    layer = capture(model, model.batch([[9]]), layers=[0])[0]
    for name in ("query", "key", "value"):
        projection, bias = getattr(weights.attention, name), getattr(weights.attention, f"{name}_bias")
        vectors = projection @ before[0] + (0 if bias is None else bias)
        norm = getattr(weights.attention, f"{name}_norm", None)
        expected = vectors if norm is None else reference._each(norm, vectors)
        assert_close(getattr(layer, name)[0, :, 0], expected, quantity(family))


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_the_final_norm_leads_from_the_last_layer_to_the_hidden_states(family: str) -> None:
    model = doubled(family)
    last = states_around(model, [4, 5, 6])[-1][1]
    hidden = model.hidden(model.batch([[4, 5, 6]]))[0]
    assert_close(reference._each(final_norm(model), last), hidden, quantity(family))


def test_encoders_have_no_final_norm() -> None:
    assert final_norm(tiny_model("bert")) is None


@pytest.mark.parametrize("family", FAMILIES)
def test_flags(family: str) -> None:
    weights = layer_weights(tiny_model(family), 1)
    assert weights.attention.causal == (family not in ("bert", "roberta"))
    assert weights.norm_position == ("post" if family in ("bert", "roberta") else "pre")
    assert (weights.feed_forward.gate is not None) == (family in ROTARY)
    assert (weights.attention.query_norm is not None) == (family == "qwen3")
    assert (weights.attention.query_bias is not None) == (family in (*ABSOLUTE, "qwen2"))


def test_nothing_is_copied() -> None:
    model = tiny_model("llama")
    query = layer_weights(model, 0).attention.query
    assert query.data_ptr() == model.layers[0].self_attn.q_proj.weight.data_ptr()
    assert not query.requires_grad


def test_an_unknown_layer_and_an_unknown_activation() -> None:
    with pytest.raises(InputError, match="0 to 1"):
        layer_weights(tiny_model("bert"), 2)
    with pytest.raises(UnsupportedModelError, match="mish"):
        layer_weights(tiny_model("bert", hidden_act="mish"))
