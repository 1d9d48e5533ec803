"""Small random layers of every kind the Lipschitz bounds cover, and a hill climb on their Jacobian norms."""

import dataclasses
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from promptreach import blocks
from promptreach.weights import AttentionWeights, FeedForwardWeights, LayerWeights, NormWeights

ACTIVATIONS = ("relu", "gelu", "gelu_tanh", "silu")


@dataclass(frozen=True, eq=False)
class Case:
    layer: LayerWeights
    radius: float
    tokens: int
    rotate: blocks.Rotation | None


def normal(generator, *shape, scale=1.0):
    return scale * torch.randn(*shape, generator=generator, dtype=torch.float64)


def choose(generator, *options):
    return options[int(torch.randint(len(options), (1,), generator=generator))]


def rotation(head_dim, tokens, speed):
    """Pairs (k, k + half) turned by position times speed / (k + 1), as Llama's are."""
    half = head_dim // 2
    angles = speed * torch.arange(tokens, dtype=torch.float64)[:, None] / (1 + torch.arange(half, dtype=torch.float64))
    cos, sin = angles.cos(), angles.sin()

    def rotate(states):
        first, second = states[..., :half], states[..., half:]
        return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)

    return rotate


def random_norm(generator, kind, size):
    bias = normal(generator, size, scale=0.3) if kind == "layer" else None
    return NormWeights(kind, normal(generator, size), bias, choose(generator, 1e-2, 0.3))


def random_case(seed):
    """Hidden sizes 2 to 4, 1 to 4 tokens, weights of any scale; half of them with something besides plain attention."""
    g = torch.Generator().manual_seed(seed)
    hidden, tokens, heads, head_dim = (choose(g, *options) for options in ((2, 3, 4), (1, 2, 3, 4), (1, 2), (2, 4)))
    kv_heads = choose(g, 1, heads)
    scale = choose(g, 0.05, 0.5, 1.5)
    rotary, biased, qk_norm = choose(g, False, False, True), choose(g, False, True), choose(g, False, False, True)
    position = choose(g, "none", "none", "pre", "post")
    kind = choose(g, "layer", "rms")
    attention = AttentionWeights(
        query=normal(g, heads, head_dim, hidden, scale=scale),
        key=normal(g, kv_heads, head_dim, hidden, scale=scale),
        value=normal(g, kv_heads, 2, hidden),
        output=None if heads * 2 == hidden else normal(g, hidden, heads * 2),
        scale=choose(g, None, 1.0),
        query_bias=normal(g, heads, head_dim) if biased else None,
        key_bias=normal(g, kv_heads, head_dim) if biased else None,
        value_bias=normal(g, kv_heads, 2) if biased else None,
        output_bias=normal(g, hidden) if biased else None,
        query_norm=random_norm(g, "rms", head_dim) if qk_norm else None,
        key_norm=random_norm(g, "rms", head_dim) if qk_norm else None,
        rotary=rotary,
        causal=choose(g, False, True),
    )
    feed_forward = FeedForwardWeights(
        up=normal(g, 5, hidden),
        down=normal(g, hidden, 5),
        activation=choose(g, *ACTIVATIONS),
        up_bias=normal(g, 5) if biased else None,
        down_bias=normal(g, hidden) if biased else None,
        gate=normal(g, 5, hidden) if choose(g, False, True) else None,
    )
    norms = (None, None) if position == "none" else (random_norm(g, kind, hidden), random_norm(g, kind, hidden))
    layer = LayerWeights(attention, feed_forward, *norms, norm_position=position)
    return Case(layer, choose(g, 0.3, 1.0, 3.0), tokens, rotation(head_dim, tokens, 1.7) if rotary else None)


def inside(points: Tensor, radius: float) -> Tensor:
    """Each token brought back into the ball, strictly inside against the rounding of this very step."""
    norms = points.norm(dim=-1, keepdim=True)
    return points * (radius * (1 - 1e-12) / norms.clamp(min=radius))


def steepest(branch: blocks.Branch, radius: float, tokens: int, hidden: int, seed: int, steps: int, starts: int = 4):
    """The largest Jacobian norm that a hill climb in the ball finds, from several starts at once."""
    g = torch.Generator().manual_seed(seed)
    points = inside(normal(g, starts, tokens, hidden) * radius / math.sqrt(hidden), radius)
    signs = 1 - 2 * (torch.arange(tokens, dtype=torch.float64)[:, None] % 2)
    points[0] = inside(signs * points[0, :1].expand(tokens, hidden) * 100, radius)

    def jacobian_norms(at):
        jacobians = torch.func.vmap(torch.func.jacrev(branch))(at)
        return torch.linalg.matrix_norm(jacobians.flatten(3, 4).flatten(1, 2), ord=2)

    best, rate = 0.0, 0.3 * radius
    for _ in range(steps):
        points = points.detach().requires_grad_()
        values = jacobian_norms(points)
        best = max(best, float(values.detach().max()))
        (slope,) = torch.autograd.grad(values.sum(), points)
        slope = torch.nan_to_num(slope)
        longest = slope.flatten(1).norm(dim=1).clamp(min=1e-30)[:, None, None]
        points = inside(points.detach() + rate * slope / longest, radius)
        rate *= 0.9
    return max(best, float(jacobian_norms(points.detach()).max()))


def contracting(seed, *, causal=False, gated=False, activation="gelu", scale=0.1, hidden=4, heads=2):
    g = torch.Generator().manual_seed(seed)
    projections = [normal(g, heads, 2, hidden, scale=scale) for _ in range(3)]
    biases = [normal(g, heads, 2, scale=scale) for _ in range(3)]
    weights = AttentionWeights(
        *projections, normal(g, hidden, 2 * heads, scale=scale), None, *biases, normal(g, hidden, scale=scale)
    )
    mlp = FeedForwardWeights(
        up=normal(g, 6, hidden, scale=scale),
        down=normal(g, hidden, 6, scale=scale),
        activation=activation,
        up_bias=normal(g, 6, scale=scale),
        down_bias=normal(g, hidden, scale=scale),
        gate=normal(g, 6, hidden, scale=scale) if gated else None,
    )
    return LayerWeights(dataclasses.replace(weights, causal=causal), mlp)
