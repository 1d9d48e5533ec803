"""Prefixes with queries and content of their own, for tests that make prefixes shorter."""

import torch
from torch import Tensor

from promptreach.attention import Statistics, statistics
from promptreach.compression.sampled import PrefixHeads, prefix_heads
from promptreach.prompt import Prefix

LAYERS, HEADS, KV_HEADS, SAMPLES, LENGTH, DIM = 2, 4, 2, 64, 24, 8


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def problem(seed: int = 0, length: int = LENGTH) -> tuple[Prefix, Tensor, Tensor, Tensor]:
    """A prefix, queries with a direction in common as real ones have, and content keys and values for each layer."""
    prefix = Prefix(
        normal(LAYERS, KV_HEADS, length, DIM, seed=seed), normal(LAYERS, KV_HEADS, length, DIM, seed=seed + 1)
    )
    queries = normal(LAYERS, HEADS, SAMPLES, DIM, seed=seed + 2) + 3 * normal(LAYERS, HEADS, 1, DIM, seed=seed + 3)
    return prefix, queries, *(normal(LAYERS, KV_HEADS, 9, DIM, seed=seed + 4 + i) for i in range(2))


def content_of(queries: Tensor, keys: Tensor, values: Tensor) -> Statistics:
    parts = [statistics(*layer) for layer in zip(queries, keys, values, strict=True)]
    return Statistics(torch.stack([part.lse for part in parts]), torch.stack([part.mean for part in parts]))


def first_layer(seed: int = 0, with_content: bool = True) -> PrefixHeads:
    """The first layer of a problem, for its fits."""
    prefix, queries, keys, values = problem(seed)
    content = statistics(queries[0], keys[0], values[0]) if with_content else None
    return prefix_heads(prefix.keys[0], prefix.values[0], queries[0], content, DIM**-0.5)
