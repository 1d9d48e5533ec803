"""Slots stand for all keys."""

import torch

from helpers.attention_problems import smooth_head
from promptreach.fast_attention.fused import fused_statistics
from promptreach.fast_attention.sampled.centres import draw_centres


def test_slots_stand_for_all_keys() -> None:
    """Unfitted slots have about the right mass and mean at the mean query."""
    query, key, value = smooth_head(400, 3000, dtype=torch.float64)
    query, key = query * 8**-0.5, key - key.mean(dim=0)
    exact = fused_statistics(query, key, value)
    slots = draw_centres(query, exact.lse[:64], key, value, 500, torch.Generator().manual_seed(0))
    middle = query.mean(dim=0, keepdim=True)
    seen, truth = fused_statistics(middle, slots.key, slots.value, slots.bias), fused_statistics(middle, key, value)
    assert abs(float(seen.lse - truth.lse)) < 0.1
    assert float((seen.mean - truth.mean).abs().max()) < 0.1
