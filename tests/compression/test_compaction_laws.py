"""The closed form and its refinement: better than a subset, never worse where they look, and mass in the keys."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.shrinking import DIM, first_layer
from promptreach.attention import statistics
from promptreach.compression.compaction import attended, common_direction, compact, match_mass, refine
from promptreach.compression.sampled import PrefixSlots


def test_the_closed_form_beats_the_most_attended_slots() -> None:
    layer = first_layer()
    none = torch.zeros(6, dtype=torch.float64)
    most = attended(layer).topk(6, dim=1).indices[..., None].expand(-1, -1, DIM)
    kept = PrefixSlots(layer.keys.gather(1, most), layer.values.gather(1, most), none)
    assert float(layer.errors(compact(layer, none)).mean()) < 0.8 * float(layer.errors(kept).mean())


@settings(max_examples=10)
@given(st.integers(0, 10**6), st.integers(1, 8))
def test_refinement_never_makes_a_head_worse_where_it_looks(seed: int, count: int) -> None:
    layer = first_layer(seed)
    start = compact(layer, torch.zeros(count, dtype=torch.float64))
    end = refine(layer, start, 3, torch.Generator().manual_seed(seed))
    assert bool((layer.errors(end) <= layer.errors(start)).all())


def test_mass_is_carried_by_the_keys_common_direction() -> None:
    layer = first_layer(with_content=False)
    few = PrefixSlots(layer.keys[:, :4], layer.values[:, :4], torch.zeros(4, dtype=torch.float64))

    def mass_error(slots: PrefixSlots) -> float:
        given = statistics(layer.query, slots.keys, slots.values, scale=1.0).lse
        return float((given - layer.prefix.lse).square().mean().sqrt())

    assert mass_error(match_mass(layer, few)) < 0.5 * mass_error(few)
    assert float(((layer.query @ common_direction(layer.query)[..., None]) - 1).square().mean().sqrt()) < 0.3
