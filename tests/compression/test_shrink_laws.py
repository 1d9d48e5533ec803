"""A shorter prefix: its errors are what dense attention says, its budgets add up, and easy cases are solved."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from helpers.tolerances import assert_close
from promptreach.attention import Statistics, merge, split, statistics
from promptreach.certificate import Evidence
from promptreach.compression.compaction import attended, common_direction, compact, match_mass, refine
from promptreach.compression.sampled import Slots, sampled_heads
from promptreach.compression.shrink import HELD_OUT
from promptreach.errors import InputError
from promptreach.inference import Shrunk, shrink
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


def shrunk(tokens: int, seed: int = 0, **options: Any) -> tuple[Shrunk, tuple[Prefix, Tensor, Tensor, Tensor]]:
    prefix, queries, keys, values = problem(seed)
    return shrink(prefix, queries, tokens, content=content_of(queries, keys, values), **options), (
        prefix,
        queries,
        keys,
        values,
    )


@settings(max_examples=8)
@given(st.integers(0, 10**6), st.integers(1, LENGTH - 1), st.sampled_from(["equal", "by head"]))
def test_errors_are_those_of_dense_attention_on_the_prefix_that_is_handed_out(
    seed: int, tokens: int, budgets: str
) -> None:
    small, (prefix, queries, keys, values) = shrunk(tokens, seed, steps=2, budgets=budgets)
    held_out = queries[:, :, round(SAMPLES * (1 - HELD_OUT)) :]
    for layer in range(LAYERS):
        full, short = (
            split(held_out[layer], keys[layer], values[layer], each.keys[layer], each.values[layer]).output
            for each in (prefix, small.prefix)
        )
        for head in range(KV_HEADS):
            rows = slice(head * HEADS // KV_HEADS, (head + 1) * HEADS // KV_HEADS)
            exact, missed = full[rows].flatten(0, 1), (short - full)[rows].flatten(0, 1)
            expected = missed.norm() / (exact - exact.mean(dim=0)).norm()
            assert_close(small.errors[layer, head], expected, "shrink error")
    assert int(small.budgets.sum()) <= tokens * LAYERS * KV_HEADS
    assert small.prefix.length == int(small.budgets.max())
    assert small.certificate.value == float(small.errors.max())
    assert small.certificate.evidence is Evidence.MEASURED


def test_a_head_with_a_smaller_budget_has_that_many_different_slots() -> None:
    small, _ = shrunk(6, budgets="by head", steps=3)
    assert len(set(small.budgets.flatten().tolist())) > 1
    for layer in range(LAYERS):
        for head in range(KV_HEADS):
            assert len(small.prefix.keys[layer, head].unique(dim=0)) == int(small.budgets[layer, head])


def test_repeated_slots_count_as_often_as_they_stand() -> None:
    keys, values, query = normal(2, 3, DIM), normal(2, 3, DIM, seed=1), normal(2, 5, DIM, seed=2)
    slots = Slots(keys, values, torch.tensor([1.0, 4.0, 2.0], dtype=torch.float64).log())
    counted = statistics(query, keys, values, scale=1.0, mask=slots.log_copies)
    written = statistics(query, *slots.repeated(), scale=1.0)
    assert_close(written.lse, counted.lse, "attention statistic")
    assert_close(written.mean, counted.mean, "attention statistic")


def test_a_prefix_of_few_different_slots_is_found_again() -> None:
    distinct, queries, keys, values = problem(length=3)
    queries[..., 0] = 4.0  # a coordinate that every query has in common carries any weight
    copies = torch.tensor([1, 5, 2])
    prefix = Prefix(*(part.repeat_interleave(copies, dim=2) for part in (distinct.keys, distinct.values)))
    small = shrink(prefix, queries, 3, content=content_of(queries, keys, values), steps=60)
    assert float(small.errors.max()) < 0.02
    unmatched = shrink(distinct, queries, 2, content=content_of(queries, keys, values), steps=60)
    assert float(unmatched.errors.max()) > 0.1  # three slots that are all needed do not fit into two


def test_more_slots_and_refinement_help_and_the_subset_is_worse() -> None:
    errors = {tokens: float(shrunk(tokens, steps=0)[0].errors.mean()) for tokens in (2, 6, 12)}
    assert errors[2] > errors[6] > errors[12]
    refined = float(shrunk(6, steps=80)[0].errors.mean())
    assert refined < 0.95 * errors[6]
    _, (prefix, queries, keys, values) = shrunk(6, steps=0)
    layer = sampled_heads(
        prefix.keys[0], prefix.values[0], queries[0], statistics(queries[0], keys[0], values[0]), DIM**-0.5
    )
    most = attended(layer, prefix.keys[0]).topk(6, dim=1).indices[..., None].expand(-1, -1, DIM)
    kept = Slots(prefix.keys[0].gather(1, most), prefix.values[0].gather(1, most), torch.zeros(6, dtype=torch.float64))
    fitted = compact(layer, prefix.keys[0], prefix.values[0], torch.zeros(6, dtype=torch.float64))
    assert float(layer.errors(fitted).mean()) < 0.8 * float(layer.errors(kept).mean())


@settings(max_examples=10)
@given(st.integers(0, 10**6), st.integers(1, 8))
def test_refinement_never_makes_a_head_worse_where_it_looks(seed: int, count: int) -> None:
    prefix, queries, keys, values = problem(seed)
    layer = sampled_heads(
        prefix.keys[0], prefix.values[0], queries[0], statistics(queries[0], keys[0], values[0]), DIM**-0.5
    )
    start = compact(layer, prefix.keys[0], prefix.values[0], torch.zeros(count, dtype=torch.float64))
    end = refine(layer, start, 3, torch.Generator().manual_seed(seed))
    assert bool((layer.errors(end) <= layer.errors(start)).all())


def test_mass_is_carried_by_the_keys_common_direction() -> None:
    prefix, queries, _, _ = problem()
    layer = sampled_heads(prefix.keys[0], prefix.values[0], queries[0], None, DIM**-0.5)
    few = Slots(prefix.keys[0][:, :4], prefix.values[0][:, :4], torch.zeros(4, dtype=torch.float64))

    def mass_error(slots: Slots) -> float:
        given = statistics(layer.query, slots.keys, slots.values, scale=1.0).lse
        return float((given - layer.prefix.lse).square().mean().sqrt())

    assert mass_error(match_mass(layer, few)) < 0.5 * mass_error(few)
    assert float(((layer.query @ common_direction(layer.query)[..., None]) - 1).square().mean().sqrt()) < 0.3


def test_the_full_prefix_has_no_error_and_its_target_is_attention() -> None:
    prefix, queries, keys, values = problem()
    content = statistics(queries[0], keys[0], values[0])
    layer = sampled_heads(prefix.keys[0], prefix.values[0], queries[0], content, DIM**-0.5)
    full = Slots(prefix.keys[0], prefix.values[0], torch.zeros(LENGTH, dtype=torch.float64))
    assert_close(layer.errors(full), torch.zeros(KV_HEADS, dtype=torch.float64), "shrink error")
    dense = merge(content, statistics(queries[0], prefix.keys[0], prefix.values[0])).mean
    grouped = dense.reshape(KV_HEADS, -1, SAMPLES, DIM).transpose(1, 2).flatten(1, 2)
    assert_close(layer.target, grouped, "attention output")


def test_the_same_seed_gives_the_same_prefix_and_another_another() -> None:
    keys = [
        shrunk(5, steps=5, generator=None if seed is None else torch.Generator().manual_seed(seed))[0].prefix.keys
        for seed in (None, 0, 0)
    ]
    assert torch.equal(keys[0], keys[1])
    assert torch.equal(keys[1], keys[2])


def test_without_content_mass_and_value_both_count() -> None:
    prefix, queries, _, _ = problem()
    small = shrink(prefix, queries, 8, steps=50)
    for layer in range(LAYERS):
        full, short = (
            statistics(queries[layer], each.keys[layer], each.values[layer]) for each in (prefix, small.prefix)
        )
        assert float((full.lse - short.lse).square().mean().sqrt()) < 0.3
        assert float((full.mean - short.mean).norm() / (full.mean - full.mean.mean(-2, keepdim=True)).norm()) < 0.5


def test_half_precision_is_fitted_in_single_and_handed_back_in_single() -> None:
    prefix, queries, _, _ = problem()
    small = shrink(Prefix(prefix.keys.bfloat16(), prefix.values.bfloat16()), queries.bfloat16(), 4, steps=1)
    assert small.prefix.keys.dtype == torch.float32
    assert bool(small.errors.isfinite().all())


def test_progress_counts_layers() -> None:
    seen: list[tuple[int, int]] = []
    shrunk(3, steps=0, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, LAYERS), (2, LAYERS)]


def test_constant_targets_are_measured_by_their_size() -> None:
    prefix, queries, _, _ = problem()
    flat = Prefix(prefix.keys, torch.ones_like(prefix.values))
    assert bool(shrink(flat, queries, 3, steps=2).errors.isfinite().all())
    nothing = Prefix(prefix.keys, torch.zeros_like(prefix.values))
    assert float(shrink(nothing, queries, 3, steps=2).errors.max()) == 0.0


def test_every_fault_at_once() -> None:
    prefix, queries, keys, values = problem()
    content = content_of(queries, keys, values)
    with pytest.raises(InputError) as caught:
        shrink(prefix, queries, LENGTH, budgets="some", steps=-1, scale=0.0)
    assert [fault.where for fault in caught.value.faults] == ["tokens", "budgets", "steps", "scale"]
    with pytest.raises(InputError, match="at least 8"):
        shrink(prefix, queries[:, :, :7], 3)
    with pytest.raises(InputError, match="divisor of the 3 query heads"):
        shrink(prefix, queries[:, :3], 3)
    with pytest.raises(InputError, match="nan"):
        shrink(prefix, queries.index_fill(2, torch.tensor([1]), torch.nan), 3)
    with pytest.raises(InputError) as caught:
        shrink(prefix, queries, 3, content=Statistics(content.lse[:, :1], content.mean * torch.nan))
    assert [fault.where for fault in caught.value.faults] == ["content.lse", "content.mean"]
