"""What the compiler's tests share: small backbones, and any backbone as layers of the reference transformer."""

from functools import lru_cache

import torch

from promptreach.compiler import build_backbone
from promptreach.compiler.parts.blocks import Attention
from promptreach.weights import AttentionWeights, LayerWeights

SIZES = [(1, 1), (1, 2), (2, 1), (1, 3), (2, 2)]


@lru_cache
def small(dim, tokens, tol=0.2, construction="programmable", dtype=torch.float64, lipschitz=1.0, **options):
    """A backbone of few cells, built once for all tests; they must not change it."""
    return build_backbone(dim, tokens, lipschitz, tol, construction, dtype=dtype, **options)


def reference_layers(backbone):
    """The passes as the reference's layers: an attention that does nothing stands before each feed-forward pass."""
    size = backbone.stream.size
    nothing = AttentionWeights(*[torch.zeros(1, 1, size, dtype=torch.float64)] * 3, torch.zeros(size, 1).double())
    return [
        LayerWeights(item.weights().to(torch.float64))
        if isinstance(item, Attention)
        else LayerWeights(nothing, item.weights().to(torch.float64))
        for item in backbone.passes
    ]


def random_inputs(dim, tokens, count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, tokens, dim, generator=generator, dtype=torch.float64)
