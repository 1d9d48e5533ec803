"""A shorter prefix: its errors are what dense attention says, its budgets add up, and easy cases are solved."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from helpers.shrinking import HEADS, KV_HEADS, LAYERS, LENGTH, SAMPLES, content_of, problem
from helpers.tolerances import assert_close
from promptreach.attention import Statistics, split, statistics
from promptreach.certificate import Evidence
from promptreach.compression.shrink import HELD_OUT
from promptreach.errors import InputError
from promptreach.inference import Shrunk, shrink
from promptreach.prompt import Prefix


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
    assert all(
        item.value <= most and item.rechecked for item, most in zip(small.least, small.budgets.flatten(), strict=True)
    )


def test_a_head_with_a_smaller_budget_has_that_many_different_slots() -> None:
    small, _ = shrunk(6, budgets="by head", steps=3)
    assert len(set(small.budgets.flatten().tolist())) > 1
    for layer in range(LAYERS):
        for head in range(KV_HEADS):
            assert len(small.prefix.keys[layer, head].unique(dim=0)) == int(small.budgets[layer, head])


def test_a_prefix_of_few_different_slots_is_found_again() -> None:
    distinct, queries, keys, values = problem(length=3)
    queries[..., 0] = 4.0  # a coordinate that every query has in common carries any weight
    copies = torch.tensor([1, 5, 2])
    prefix = Prefix(*(part.repeat_interleave(copies, dim=2) for part in (distinct.keys, distinct.values)))
    small = shrink(prefix, queries, 3, content=content_of(queries, keys, values), steps=60)
    assert float(small.errors.max()) < 0.02
    unmatched = shrink(distinct, queries, 2, content=content_of(queries, keys, values), steps=60)
    assert float(unmatched.errors.max()) > 0.1  # three slots that are all needed do not fit into two


def test_more_slots_and_refinement_help() -> None:
    errors = {tokens: float(shrunk(tokens, steps=0)[0].errors.mean()) for tokens in (2, 6, 12)}
    assert errors[2] > errors[6] > errors[12]
    refined = float(shrunk(6, steps=80)[0].errors.mean())
    assert refined < 0.95 * errors[6]


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
