"""The weights of a real model's layers, as the plain records that every room accepts.

Tensors are detached views, in the model's dtype: nothing is copied until a room converts. A sliding window is not in
the records; it is in the masks of `promptreach.hf.running.capture`.
"""

from typing import Any, overload

import torch
from jaxtyping import Float
from torch import Tensor, nn

from promptreach.backbone import Prepended, TokenBatch
from promptreach.errors import Fault, InputError, UnsupportedModelError
from promptreach.hf.models.families import ACTIVATIONS, Family, row_of
from promptreach.hf.models.model import OpenModel
from promptreach.weights import Activation, AttentionWeights, FeedForwardWeights, LayerWeights, NormWeights


@overload
def layer_weights(model: OpenModel, layer: None = None) -> list[LayerWeights]: ...
@overload
def layer_weights(model: OpenModel, layer: int) -> LayerWeights: ...
def layer_weights(model: OpenModel, layer: int | None = None) -> list[LayerWeights] | LayerWeights:
    """The weights of one layer, or of all of them, first layer first.

    Raises:
        InputError: for a layer that the model does not have.
        UnsupportedModelError: for an architecture whose weights are not understood, or when the feed-forward network
            uses an activation that the records do not know.
    """
    row = row_of(model.row, model.family, model.unread, "A record of the weights")
    activation = _activation(model, row)
    if layer is None:
        return [_layer(module, model, row, activation) for module in model.layers]
    if not 0 <= layer < model.num_layers:
        raise InputError(Fault("layer", str(layer), f"0 to {model.num_layers - 1}"))
    return _layer(model.layers[layer], model, row, activation)


@torch.no_grad()
def layer_inputs(model: OpenModel, batch: TokenBatch, joined: Prepended | None = None) -> list[Tensor]:
    """The states that enter each layer, (batch, seq, hidden), first layer first.

    With a prompt the joined positions are part of the sequence; a prefix adds none.

    Raises:
        InputError: as `OpenModel.hidden` does.
    """
    return list(model.run(batch, joined, output_hidden_states=True).hidden_states[:-1])


def final_norm(model: OpenModel) -> NormWeights | None:
    """The norm between the last layer and `OpenModel.hidden`; None where layers end with their own (BERT)."""
    row = row_of(model.row, model.family, model.unread, "A record of the weights")
    return None if row.final_norm is None else _norm(model.model.base_model, row.final_norm, row)


def _layer(module: nn.Module, model: OpenModel, row: Family, activation: Activation) -> LayerWeights:
    return LayerWeights(
        attention=_attention(module, row, model.head_dim),
        feed_forward=_feed_forward(module, row, activation),
        attention_norm=_norm(module, row.attention_norm, row),
        feed_forward_norm=_norm(module, row.feed_forward_norm, row),
        norm_position=row.norm_position,
    )


def _attention(module: nn.Module, row: Family, head_dim: int) -> AttentionWeights:
    parts = [_linear(module, path, row) for path in row.projections]
    if len(parts) == 1:  # one matrix for all three, one below the other
        weight, bias = parts[0]
        parts = list(zip(weight.chunk(3), (None,) * 3 if bias is None else bias.chunk(3), strict=True))
    (query, key, value) = (weight.unflatten(0, (-1, head_dim)) for weight, _ in parts)
    query_bias, key_bias, value_bias = (
        None if bias is None else bias.unflatten(0, (-1, head_dim)) for _, bias in parts
    )
    output, output_bias = _linear(module, row.output, row)
    return AttentionWeights(
        query=query,
        key=key,
        value=value,
        output=output,
        scale=float(_part(module, row.attention).scaling),
        query_bias=query_bias,
        key_bias=key_bias,
        value_bias=value_bias,
        output_bias=output_bias,
        query_norm=None if row.query_norm is None else _norm(module, row.query_norm, row),
        key_norm=None if row.key_norm is None else _norm(module, row.key_norm, row),
        rotary=row.rotary,
        causal=not row.encoder,
    )


def _feed_forward(module: nn.Module, row: Family, activation: Activation) -> FeedForwardWeights:
    up, up_bias = _linear(module, row.up, row)
    down, down_bias = _linear(module, row.down, row)
    gate, gate_bias = (None, None) if row.gate is None else _linear(module, row.gate, row)
    return FeedForwardWeights(up, down, activation, up_bias, down_bias, gate, gate_bias)


def _norm(module: nn.Module, path: str, row: Family) -> NormWeights:
    norm = _part(module, path)
    if row.norm_kind == "layer":
        return NormWeights("layer", norm.weight.detach(), norm.bias.detach(), float(norm.eps))
    return NormWeights("rms", norm.weight.detach(), None, float(norm.variance_epsilon))


def _linear(module: nn.Module, path: str, row: Family) -> tuple[Float[Tensor, "out in"], Float[Tensor, " out"] | None]:
    linear = _part(module, path)
    weight = linear.weight.detach()
    bias = getattr(linear, "bias", None)
    return (weight.T if row.transposed else weight), (None if bias is None else bias.detach())


def _part(module: nn.Module, path: str) -> Any:
    return module.get_submodule(path)


def _activation(model: OpenModel, row: Family) -> Activation:
    name = getattr(model.model.config, row.activation_field)
    if name not in ACTIVATIONS:
        raise UnsupportedModelError(f"{model.family} with activation {name!r}", tuple(ACTIVATIONS))
    return ACTIVATIONS[name]
