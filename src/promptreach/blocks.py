"""The two branches of a layer as differentiable float64 functions, and Jacobian norms at points.

Branches come without the residual connections around them. `reference.py` defines what they compute; here it is
batched, so that Jacobians can be had: their norms are lower bounds on Lipschitz constants.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from promptreach.weights import Activation, AttentionWeights, FeedForwardWeights, LayerWeights, NormWeights

Branch = Callable[[Float[Tensor, "tokens hidden"]], Float[Tensor, "tokens hidden"]]

Rotation = Callable[[Float[Tensor, "heads tokens head_dim"]], Float[Tensor, "heads tokens head_dim"]]
"""Rotates the queries, or the keys, of all heads by position; it must be orthogonal at each position."""


def norms_in_front(layer: LayerWeights) -> tuple[NormWeights | None, NormWeights | None]:
    """The norms that stand in front of the attention and of the feed-forward network."""
    return (layer.attention_norm, layer.feed_forward_norm) if layer.norm_position == "pre" else (None, None)


def attention_branch(layer: LayerWeights, rotate: Rotation | None = None) -> Branch:
    """The function that attention adds to the stream: the norm first where it stands in front. Weights are float64."""
    norm, _ = norms_in_front(layer)
    return lambda states: attend(layer.attention, normed(norm, states), rotate)


def feed_forward_branch(layer: LayerWeights) -> Branch:
    """The function that the feed-forward network adds to the stream; 0 where there is none."""
    _, norm = norms_in_front(layer)
    weights = layer.feed_forward
    if weights is None:
        return torch.zeros_like
    return lambda states: feed_forward(weights, normed(norm, states))


def between(layer: LayerWeights, states: Float[Tensor, "tokens hidden"], rotate: Rotation | None) -> Tensor:
    """The stream after attention, where the feed-forward branch reads it."""
    after = states + attention_branch(layer, rotate)(states)
    return normed(layer.attention_norm, after) if layer.norm_position == "post" else after


def attend(
    weights: AttentionWeights, states: Float[Tensor, "tokens hidden"], rotate: Rotation | None = None
) -> Float[Tensor, "tokens out"]:
    """Attention over the sequence; every token sees every other, or only itself and those before it."""
    groups = weights.num_heads // weights.num_kv_heads
    query = normed(weights.query_norm, projected(weights.query, weights.query_bias, states))
    key = normed(weights.key_norm, projected(weights.key, weights.key_bias, states))
    if rotate is not None:
        query, key = rotate(query), rotate(key)
    value = projected(weights.value, weights.value_bias, states).repeat_interleave(groups, dim=0)
    scores = weights.softmax_scale * query @ key.repeat_interleave(groups, dim=0).mT
    if weights.causal:
        hidden = torch.ones_like(scores, dtype=torch.bool).triu(1)
        scores = scores.masked_fill(hidden, float("-inf"))
    heads = (scores.softmax(dim=-1) @ value).permute(1, 0, 2).flatten(1)
    if weights.output is not None:
        heads = heads @ weights.output.mT
    return heads if weights.output_bias is None else heads + weights.output_bias


def feed_forward(weights: FeedForwardWeights, states: Float[Tensor, "tokens hidden"]) -> Float[Tensor, "tokens out"]:
    """The token-wise network."""
    hidden = functional.linear(states, weights.up, weights.up_bias)
    if weights.gate is None:
        hidden = activated(weights.activation, hidden)
    else:
        gate = functional.linear(states, weights.gate, weights.gate_bias)
        hidden = activated(weights.activation, gate) * hidden
    return functional.linear(hidden, weights.down, weights.down_bias)


def normed(norm: NormWeights | None, states: Float[Tensor, "... size"]) -> Float[Tensor, "... size"]:
    """LayerNorm or RMSNorm over the last axis; the states themselves where there is no norm."""
    if norm is None:
        return states
    scaled = standardised(norm, states) * norm.weight
    return scaled if norm.bias is None else scaled + norm.bias


def standardised(norm: NormWeights, states: Float[Tensor, "... size"]) -> Float[Tensor, "... size"]:
    """The norm without its weight and bias."""
    if norm.kind == "layer":
        states = states - states.mean(dim=-1, keepdim=True)
    return states / (states.square().mean(dim=-1, keepdim=True) + norm.eps).sqrt()


def activated(activation: Activation, values: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """The activation, entry by entry."""
    if activation in ("gelu", "gelu_tanh"):
        return functional.gelu(values, approximate="tanh" if activation == "gelu_tanh" else "none")
    return functional.silu(values) if activation == "silu" else functional.relu(values)


def projected(
    matrices: Float[Tensor, "heads size hidden"],
    bias: Float[Tensor, "heads size"] | None,
    states: Float[Tensor, "tokens hidden"],
) -> Float[Tensor, "heads tokens size"]:
    """One projection of all tokens for each head."""
    images = states @ matrices.mT
    return images if bias is None else images + bias[:, None]


def jacobian_norm(
    function: Branch, point: Float[Tensor, "tokens hidden"], iterations: int, generator: torch.Generator
) -> float:
    """A lower bound on the norm of the Jacobian J: |J v| / |v| for a direction v from power iteration on J^T J.

    Frobenius norms over stacked tokens. May exceed the truth by rounding: float64, without an account of it.
    """
    direction = torch.randn(point.shape, generator=generator, dtype=torch.float64)
    pull_back = torch.func.vjp(function, point)[1]
    stretch = 0.0
    for _ in range(iterations):
        direction = direction / direction.norm()
        pushed = torch.func.jvp(function, (point,), (direction,))[1]
        stretch = float(pushed.norm())
        if stretch == 0.0:
            return 0.0
        (direction,) = pull_back(pushed)
    return stretch


def points_in_ball(
    hidden: int, tokens: int, radius: float, generator: torch.Generator
) -> list[Float[Tensor, "tokens hidden"]]:
    """Points where Jacobians are large: on the sphere, in two opposite clusters, and near 0, where norms are."""
    directions = torch.nn.functional.normalize(
        torch.randn(tokens, hidden, generator=generator, dtype=torch.float64), dim=1
    )
    signs = 1 - 2 * (torch.arange(tokens, dtype=torch.float64)[:, None] % 2)
    inside = radius * (1 - 1e-12)
    return [inside * directions, inside * signs * directions[:1], 1e-4 * inside * directions]
