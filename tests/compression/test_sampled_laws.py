"""Slots and sampled heads: outputs are those of attention, and copies count."""

import torch

from helpers.shrinking import DIM, KV_HEADS, LENGTH, SAMPLES, first_layer, normal, problem
from helpers.tolerances import assert_close
from promptreach.attention import merge, statistics
from promptreach.compression.sampled import PrefixSlots


def test_repeated_slots_count_as_often_as_they_stand() -> None:
    keys, values, query = normal(2, 3, DIM), normal(2, 3, DIM, seed=1), normal(2, 5, DIM, seed=2)
    slots = PrefixSlots(keys, values, torch.tensor([1.0, 4.0, 2.0], dtype=torch.float64).log())
    counted = statistics(query, keys, values, scale=1.0, mask=slots.log_copies)
    written = statistics(query, *slots.repeated(), scale=1.0)
    assert_close(written.lse, counted.lse, "attention statistic")
    assert_close(written.mean, counted.mean, "attention statistic")


def test_the_full_prefix_has_no_error_and_its_target_is_attention() -> None:
    prefix, queries, keys, values = problem()
    content, layer = statistics(queries[0], keys[0], values[0]), first_layer()
    full = PrefixSlots(prefix.keys[0], prefix.values[0], torch.zeros(LENGTH, dtype=torch.float64))
    assert_close(layer.errors(full), torch.zeros(KV_HEADS, dtype=torch.float64), "shrink error")
    dense = merge(content, statistics(queries[0], prefix.keys[0], prefix.values[0])).mean
    grouped = dense.reshape(KV_HEADS, -1, SAMPLES, DIM).transpose(1, 2).flatten(1, 2)
    assert_close(layer.target, grouped, "attention output")


def test_parts_of_the_heads_have_the_errors_of_those_heads_and_queries() -> None:
    whole = first_layer()
    slots = PrefixSlots(whole.keys[:, :5], whole.values[:, :5], torch.zeros(5, dtype=torch.float64))
    second = torch.tensor([False, True])
    part = whole.of(second)
    assert_close(
        part.errors(PrefixSlots(*(item[second] for item in (slots.keys, slots.values)), slots.log_copies)),
        whole.errors(slots)[second],
        "shrink error",
    )
    assert_close(whole.take(slice(3, 9)).output(slots), whole.output(slots)[:, 3:9], "attention output")
