"""Slots at the door of attention: seen by every query, and nothing else moved."""

import pytest
import torch

from helpers.families import small_module
from helpers.reach import SEQUENCES
from helpers.tolerances import TOLERANCES
from promptreach.backbone import Prepended
from promptreach.hf import OpenModel, capture


@pytest.mark.parametrize("family", ["distilbert", "modernbert", "albert"])
def test_slots_at_the_door_are_seen_by_every_query(family: str) -> None:
    model = OpenModel(small_module(family), name=family)
    assert model.traits.prefix_by == "door"
    generator = torch.Generator().manual_seed(0)
    shape = (model.num_layers, model.num_kv_heads, 3, model.head_dim)
    keys, values = (torch.randn(shape, generator=generator) for _ in range(2))
    batch = model.batch(SEQUENCES)
    layers = capture(model, batch, Prepended(prefix_keys=keys, prefix_values=values))
    for index, layer in enumerate(layers):
        assert torch.equal(layer.key[0, :, :3], keys[index])
        assert torch.equal(layer.value[1, :, :3], values[index])
        assert bool(layer.mask[..., :3].all())
        assert layer.rebuilt_error(batch.mask) <= TOLERANCES["captured attention", torch.float32][0]
