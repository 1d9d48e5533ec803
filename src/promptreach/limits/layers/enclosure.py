"""A layer's branches evaluated on balls: bounds on the rounding error of every entry of the result.

What is taken for granted beyond IEEE arithmetic: exp, erf and tanh err by at most 4 units in the last place.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from promptreach import blocks
from promptreach.balls import LEAST, OUTWARD, Ball
from promptreach.limits.layers.feed_forward_bounds import LARGEST_SLOPE
from promptreach.rounding import UNIT
from promptreach.weights import AttentionWeights, FeedForwardWeights


def attention(weights: AttentionWeights, states: Ball) -> Ball:
    """`blocks.attend`, without rotation and without norms on queries and keys."""
    query = _affine(states, weights.query, weights.query_bias)
    key = _affine(states, weights.key, weights.key_bias)
    value = _affine(states, weights.value, weights.value_bias)
    groups = weights.num_heads // weights.num_kv_heads
    key, value = (Ball(*(x.repeat_interleave(groups, dim=0) for x in (y.centre, y.radius))) for y in (key, value))
    scale = Ball.exact(torch.tensor(weights.softmax_scale, dtype=torch.float64))
    shares = _softmax(query @ key.transposed * scale, weights.causal)
    heads = shares @ value
    joined = Ball(*(x.permute(1, 0, 2).flatten(1) for x in (heads.centre, heads.radius)))
    output = torch.eye(weights.output_size, dtype=torch.float64) if weights.output is None else weights.output
    return _affine(joined, output, weights.output_bias)


def feed_forward(weights: FeedForwardWeights | None, states: Ball) -> Ball:
    """`blocks.feed_forward`; 0 where there is none."""
    if weights is None:
        return Ball.exact(torch.zeros_like(states.centre))
    return _affine(hidden_units(weights, states), weights.down, weights.down_bias)


def hidden_units(weights: FeedForwardWeights, states: Ball) -> Ball:
    """What the network's second matrix, `down`, is given."""
    hidden = _affine(states, weights.up, weights.up_bias)
    if weights.gate is None:
        return _activated(weights, hidden)
    return _activated(weights, _affine(states, weights.gate, weights.gate_bias)) * hidden


def _affine(states: Ball, matrices: Float[Tensor, "*heads out in_"], bias: Tensor | None) -> Ball:
    image = states @ Ball.exact(matrices.mT)
    return image if bias is None else image + Ball.exact(bias if matrices.ndim == 2 else bias[:, None])


def _softmax(scores: Ball, causal: bool) -> Ball:
    """Scores off by at most e move a weight by a factor within exp(+-2 e); roundings of exp and sum count as e."""
    hidden = (
        torch.ones_like(scores.centre, dtype=torch.bool).triu(1)
        if causal
        else torch.zeros_like(scores.centre, dtype=torch.bool)
    )
    value = scores.centre.masked_fill(hidden, float("-inf")).softmax(dim=-1)
    reach = scores.centre.masked_fill(hidden, 0.0).abs().amax(dim=-1, keepdim=True)
    off = scores.radius.masked_fill(hidden, 0.0).amax(dim=-1, keepdim=True)
    # Subtracting the maximum rounds by u of the difference; exp, the sum and the division by the counts given here.
    off = off + 4 * UNIT * reach + (value.shape[-1] + 16) * UNIT
    # The last term is for weights that underflow.
    return Ball(value, (value * torch.expm1(2 * off) + 1e-300) * OUTWARD)


def _activated(weights: FeedForwardWeights, values: Ball) -> Ball:
    """act(t) = t g(t) with g in [0, 1], which evaluates to within 16 u; errors in t grow by the largest slope."""
    radius = float(LARGEST_SLOPE[weights.activation]) * values.radius + 17 * UNIT * values.centre.abs()
    return Ball(blocks.activated(weights.activation, values.centre), radius * OUTWARD + 4 * LEAST)
