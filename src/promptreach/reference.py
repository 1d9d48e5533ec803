"""A transformer in plain loops: the definition that every faster path in this library is tested against.

Float64, one position and one head at a time, nothing batched, nothing fused: written to be compared with the formulas
in a paper, not to be run on anything large. A layer is

    x  ->  x + attention(x)  ->  x + attention(x) + feed_forward(x + attention(x)),

with the norms where `LayerWeights.norm_position` puts them.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from promptreach.errors import Fault, InputError
from promptreach.prompt import SoftPrompt
from promptreach.weights import AttentionWeights, FeedForwardWeights, LayerWeights, NormWeights


def transformer(
    layers: Sequence[LayerWeights], inputs: Float[Tensor, "seq hidden"], prompt: SoftPrompt | None = None
) -> Float[Tensor, "seq hidden"]:
    """The layers' outputs at the content positions, with the prompt's tokens in front of the inputs."""
    states = inputs.to(torch.float64)
    length = 0
    if prompt is not None:
        states = torch.cat([prompt.embeddings.to(torch.float64), states])
        length = prompt.length
    for weights in layers:
        states = layer(weights, states)
    return states[length:]


def layer(weights: LayerWeights, inputs: Float[Tensor, "seq hidden"]) -> Float[Tensor, "seq hidden"]:
    """One layer: attention, then the feed-forward network where there is one, each around a residual connection."""
    weights = weights.to(torch.float64)
    states = inputs.to(torch.float64)
    position = weights.norm_position
    norm = weights.attention_norm
    attended = attend(weights.attention, _each(norm, states) if position == "pre" else states)
    states = _each(norm, states + attended) if position == "post" else states + attended
    if weights.feed_forward is None:
        return states
    norm = weights.feed_forward_norm
    read = _each(norm, states) if position == "pre" else states
    states = states + torch.stack([_feed_forward(weights.feed_forward, vector) for vector in read])
    return _each(norm, states) if position == "post" else states


def attend(
    weights: AttentionWeights,
    inputs: Float[Tensor, "seq hidden"],
    prefix_keys: Float[Tensor, "kv_heads prompt head_dim"] | None = None,
    prefix_values: Float[Tensor, "kv_heads prompt value_dim"] | None = None,
    mask: Bool[Tensor, "*queries seq"] | None = None,
) -> Float[Tensor, "seq out"]:
    """The attention block without its residual connection. A position that sees nothing attends to 0.

    Args:
        weights: of one attention block.
        inputs: one sequence.
        prefix_keys, prefix_values: slots that every position sees, in front of the sequence.
        mask: (seq,), True where a token may be seen; or (seq, seq), True where the row's position may see the column's.

    Raises:
        InputError: for rotary weights, whose scores depend on positions that these weights do not describe.
    """
    if weights.rotary:
        raise InputError(
            Fault(
                "weights.rotary",
                "True",
                "False: rotary scores depend on the positions, which the weights alone do not tell",
                "Capture the rotated queries and keys and use promptreach.attention",
            )
        )
    weights = weights.to(torch.float64)
    inputs = inputs.to(torch.float64)
    seq = inputs.shape[0]
    visible = torch.ones(seq, seq, dtype=torch.bool) if mask is None else mask.expand(seq, seq)
    outputs = []
    for i in range(seq):
        heads = []
        for h in range(weights.num_heads):
            group = h * weights.num_kv_heads // weights.num_heads
            query = _normed(weights.query_norm, _affine(weights.query[h], _row(weights.query_bias, h), inputs[i]))
            keys, values = [], []
            if prefix_keys is not None and prefix_values is not None:
                keys += list(prefix_keys[group].to(torch.float64))
                values += list(prefix_values[group].to(torch.float64))
            for j in range(seq):
                if visible[i, j] and (j <= i or not weights.causal):
                    key = _affine(weights.key[group], _row(weights.key_bias, group), inputs[j])
                    keys.append(_normed(weights.key_norm, key))
                    values.append(_affine(weights.value[group], _row(weights.value_bias, group), inputs[j]))
            scores = [weights.softmax_scale * float(query @ key) for key in keys]
            head = torch.zeros(weights.value.shape[1], dtype=torch.float64)
            for weight, value in zip(_softmax(scores), values, strict=True):
                head = head + weight * value
            heads.append(head)
        concatenated = torch.cat(heads)
        if weights.output is None:
            outputs.append(concatenated if weights.output_bias is None else concatenated + weights.output_bias)
        else:
            outputs.append(_affine(weights.output, weights.output_bias, concatenated))
    return torch.stack(outputs)


def _softmax(scores: list[float]) -> list[float]:
    top = max(scores, default=0.0)
    exponentials = [math.exp(score - top) for score in scores]
    total = math.fsum(exponentials)
    return [value / total for value in exponentials]


def _affine(matrix: Tensor, bias: Tensor | None, vector: Tensor) -> Tensor:
    return matrix @ vector if bias is None else matrix @ vector + bias


def _row(bias: Tensor | None, index: int) -> Tensor | None:
    return None if bias is None else bias[index]


def _each(norm: NormWeights | None, states: Float[Tensor, "seq hidden"]) -> Float[Tensor, "seq hidden"]:
    return torch.stack([_normed(norm, vector) for vector in states])


def _normed(norm: NormWeights | None, vector: Tensor) -> Tensor:
    """LayerNorm or RMSNorm of one vector; the vector itself where there is no norm."""
    if norm is None:
        return vector
    size = vector.shape[0]
    mean = float(vector.sum()) / size if norm.kind == "layer" else 0.0
    variance = sum((x - mean) ** 2 for x in vector.tolist()) / size
    normed = (vector - mean) / math.sqrt(variance + norm.eps) * norm.weight
    return normed if norm.bias is None else normed + norm.bias


def _feed_forward(weights: FeedForwardWeights, vector: Tensor) -> Tensor:
    up = _affine(weights.up, weights.up_bias, vector)
    if weights.gate is None:
        hidden = _activated(weights, up)
    else:
        hidden = _activated(weights, _affine(weights.gate, weights.gate_bias, vector)) * up
    return _affine(weights.down, weights.down_bias, hidden)


def _activated(weights: FeedForwardWeights, vector: Tensor) -> Tensor:
    activation = ACTIVATIONS[weights.activation]
    return torch.tensor([activation(x) for x in vector.tolist()], dtype=torch.float64)


def _relu(x: float) -> float:
    return max(x, 0.0)


def _gelu(x: float) -> float:
    # erfc keeps the left tail, where 1 + erf cancels.
    return 0.5 * x * math.erfc(-x / math.sqrt(2))


def _gelu_tanh(x: float) -> float:
    return 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def _silu(x: float) -> float:
    # Neither exponential overflows.
    return x / (1 + math.exp(-x)) if x >= 0 else x * math.exp(x) / (1 + math.exp(x))


ACTIVATIONS = {"relu": _relu, "gelu": _gelu, "gelu_tanh": _gelu_tanh, "silu": _silu}
"""The activations as functions of one number, by name."""
