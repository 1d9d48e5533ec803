"""Built key/value slots have the mass and mean they were asked for."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.oracle_problems import normal, random_sequences, random_weights
from helpers.tolerances import assert_close
from promptreach.limits.oracle.slots import Wish, one_slot, shared_slots
from promptreach.limits.oracle.statistics import head_statistics


def setting(hidden, head_dim, seed):
    weights = random_weights(hidden, head_dim, seed)
    return weights, head_statistics(weights, random_sequences(hidden, 2, seed))


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.floats(-30, 30))
def test_one_slot_has_any_mass_and_mean(seed, lse):
    weights, statistics = setting(6, 4, seed)
    mean = normal(seed)(4)
    keys, values = one_slot(statistics, weights.softmax_scale, lse, mean)
    score = weights.softmax_scale * keys[0] @ statistics.query
    assert_close(score, torch.tensor(lse, dtype=torch.float64), "built prompt")
    assert torch.equal(values[0], mean)


def test_dependent_queries_are_not_promised_slots():
    weights = random_weights(6, 2, 4)
    wishes = [Wish(head_statistics(weights, [s]), 0.0, normal(4)(2)) for s in random_sequences(6, 3, 4, groups=3)]
    assert shared_slots(wishes, weights.softmax_scale) is None
