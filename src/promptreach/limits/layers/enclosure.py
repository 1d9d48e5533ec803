"""A layer's branches evaluated with a bound on the rounding error of every entry of the result.

Running error analysis: next to each float64 value stands a bound on its distance to the exact one. Sums of k products
err by gamma(k) times the sum of magnitudes. The bounds themselves are computed in float64 from positive numbers with
few roundings, and doubled by `_OUTWARD` of their size, which covers those for sums of up to 2^30 terms.

What is taken for granted beyond IEEE arithmetic: exp, erf and tanh err by at most 4 units in the last place.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from promptreach.limits.layers import blocks
from promptreach.limits.layers.feed_forward_bounds import STEEPEST
from promptreach.weights import AttentionWeights, FeedForwardWeights

_UNIT = 2.0**-53
_OUTWARD = 1 + 2.0**-20


@dataclass(frozen=True, eq=False)
class Enclosed:
    """Any tensor whose entries are within `error` of those of `value`."""

    value: Float[Tensor, "..."]
    error: Float[Tensor, "..."]

    @staticmethod
    def exact(value: Float[Tensor, "..."]) -> "Enclosed":
        """The tensor itself."""
        return Enclosed(value, torch.zeros_like(value))

    @property
    def size(self) -> Float[Tensor, "..."]:
        """At least the magnitude of the exact entries."""
        return (self.value.abs() + self.error) * _OUTWARD

    @property
    def transposed(self) -> "Enclosed":
        return Enclosed(self.value.mT, self.error.mT)

    def __add__(self, other: "Enclosed") -> "Enclosed":
        value = self.value + other.value
        return Enclosed(value, (self.error + other.error + 2 * _UNIT * value.abs()) * _OUTWARD)

    def __sub__(self, other: "Enclosed") -> "Enclosed":
        return self + Enclosed(-other.value, other.error)

    def __mul__(self, other: "Enclosed") -> "Enclosed":
        value = self.value * other.value
        error = self.error * other.size + self.value.abs() * other.error + 2 * _UNIT * value.abs()
        return Enclosed(value, error * _OUTWARD)

    def __matmul__(self, other: "Enclosed") -> "Enclosed":
        rounding = 2 * self.value.shape[-1] * _UNIT
        error = self.error @ other.size + self.value.abs() @ other.error
        return Enclosed(
            self.value @ other.value, (error + rounding * (self.value.abs() @ other.value.abs())) * _OUTWARD
        )

    def norm(self) -> float:
        """At least the Frobenius norm of the exact tensor."""
        return float(self.size.square().sum().sqrt()) * _OUTWARD


def attention(weights: AttentionWeights, states: Enclosed) -> Enclosed:
    """`blocks.attend`, without rotation and without norms on queries and keys."""
    query = _affine(states, weights.query, weights.query_bias)
    key = _affine(states, weights.key, weights.key_bias)
    value = _affine(states, weights.value, weights.value_bias)
    groups = weights.num_heads // weights.num_kv_heads
    key, value = (Enclosed(*(x.repeat_interleave(groups, dim=0) for x in (y.value, y.error))) for y in (key, value))
    scale = Enclosed.exact(torch.tensor(weights.softmax_scale, dtype=torch.float64))
    shares = _softmax(query @ key.transposed * scale, weights.causal)
    heads = shares @ value
    joined = Enclosed(*(x.permute(1, 0, 2).flatten(1) for x in (heads.value, heads.error)))
    output = torch.eye(weights.output_size, dtype=torch.float64) if weights.output is None else weights.output
    return _affine(joined, output, weights.output_bias)


def feed_forward(weights: FeedForwardWeights | None, states: Enclosed) -> Enclosed:
    """`blocks.feed_forward`; 0 where there is none."""
    if weights is None:
        return Enclosed.exact(torch.zeros_like(states.value))
    hidden = _affine(states, weights.up, weights.up_bias)
    if weights.gate is None:
        hidden = _activated(weights, hidden)
    else:
        hidden = _activated(weights, _affine(states, weights.gate, weights.gate_bias)) * hidden
    return _affine(hidden, weights.down, weights.down_bias)


def _affine(states: Enclosed, matrices: Float[Tensor, "*heads out in_"], bias: Tensor | None) -> Enclosed:
    image = states @ Enclosed.exact(matrices.mT)
    return image if bias is None else image + Enclosed.exact(bias if matrices.ndim == 2 else bias[:, None])


def _softmax(scores: Enclosed, causal: bool) -> Enclosed:
    """Scores off by at most e move a weight by a factor within exp(+-2 e); roundings of exp and sum count as e."""
    hidden = (
        torch.ones_like(scores.value, dtype=torch.bool).triu(1)
        if causal
        else torch.zeros_like(scores.value, dtype=torch.bool)
    )
    value = scores.value.masked_fill(hidden, float("-inf")).softmax(dim=-1)
    reach = scores.value.masked_fill(hidden, 0.0).abs().amax(dim=-1, keepdim=True)
    off = scores.error.masked_fill(hidden, 0.0).amax(dim=-1, keepdim=True)
    # Subtracting the maximum rounds by u of the difference; exp, the sum and the division by the counts given here.
    off = off + 4 * _UNIT * reach + (value.shape[-1] + 16) * _UNIT
    # The last term is for weights that underflow.
    return Enclosed(value, (value * torch.expm1(2 * off) + 1e-300) * _OUTWARD)


def _activated(weights: FeedForwardWeights, values: Enclosed) -> Enclosed:
    """act(t) = t g(t) with g in [0, 1], which evaluates to within 16 u; errors in t grow by the steepest slope."""
    error = float(STEEPEST[weights.activation]) * values.error + 17 * _UNIT * values.value.abs()
    return Enclosed(blocks.activated(weights.activation, values.value), error * _OUTWARD)
