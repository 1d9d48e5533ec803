"""Bounds on attention near given activations, against Jacobians and differences there, and changed certificates."""

import dataclasses
import math

import pytest
import torch

from helpers.oracle_problems import normal, random_weights
from helpers.tampering import damaged, said_otherwise
from promptreach import blocks
from promptreach.certificate import Evidence, Side
from promptreach.errors import InputError
from promptreach.limits import lipschitz, local_attention_bound
from promptreach.weights import LayerWeights, NormWeights


def moved(state, radius, seed):
    step = normal(seed)(*state.shape)
    return state + radius * step / step.norm()


def steepest(weights, state, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return blocks.jacobian_norm(lambda x: blocks.attend(weights, x), state, 12, generator)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("heads", "kv_heads", "out"), [(1, 1, None), (2, 1, 6), (3, 3, 7)])
def test_no_jacobian_and_no_difference_near_the_state_is_steeper(causal, heads, kv_heads, out):
    for seed in range(2):
        weights = random_weights(6, 4, seed, heads=heads, kv_heads=kv_heads, out=out, size=(0.7, 4.0)[seed])
        weights = dataclasses.replace(weights, causal=causal)
        state = normal(seed)(5, 6)
        for radius in (0.0, 0.01, 0.3):
            bound = local_attention_bound(weights, state, radius)
            assert (bound.side, bound.evidence, bound.rechecked) == (Side.UPPER, Evidence.PROVED, True)
            for at in (state, moved(state, radius, seed), moved(state, radius, seed + 7)):
                assert steepest(weights, at, seed) <= bound.value
            ends = [moved(state, radius, seed + index) for index in (20, 21)]
            apart = blocks.attend(weights, ends[1]) - blocks.attend(weights, ends[0])
            assert float(apart.norm()) <= bound.value * float((ends[1] - ends[0]).norm())


def test_it_grows_with_the_radius_and_is_tight_where_attention_is_even():
    weights, state = random_weights(6, 4, 1), normal(2)(5, 6)
    values = [local_attention_bound(weights, state, radius).value for radius in (0.0, 0.01, 0.1, 1.0)]
    assert values == sorted(values)
    assert values[1] < 1.5 * values[0]
    # Equal keys: the rows attend evenly whatever the queries, and only values move the output.
    even = dataclasses.replace(weights, key=0 * weights.key)
    assert local_attention_bound(even, state, 0.0).value < 1.01 * steepest(even, state)


def test_it_is_far_below_the_bound_of_the_ball():
    weights, state = random_weights(8, 8, 3, size=2.0), normal(4)(6, 8)
    radius = 1.01 * float(state.norm(dim=1).max())
    (ball,) = lipschitz([LayerWeights(weights)], radius, 6, states=[state])
    assert ball.attention_local is not None
    near = local_attention_bound(weights, state, 1e-3).value
    assert steepest(weights, state) <= near < ball.attention_local.value / 2 < ball.attention.value / 2


def test_scores_of_hundreds_of_nats_and_large_offsets_are_covered():
    for size, offset, faint in ((30.0, 0.0, 1.0), (1.0, 1e6, 1.0), (1.0, 0.0, 1e-150), (1.0, 0.0, 0.0)):
        weights = random_weights(5, 4, 5, size=size)
        weights = dataclasses.replace(weights, query=faint * weights.query)
        state = normal(6)(4, 5) + offset
        bound = local_attention_bound(weights, state, 1e-6)
        assert bound.evidence is Evidence.PROVED
        assert steepest(weights, state) <= bound.value


def test_a_bound_that_was_changed_is_refused():
    bound = local_attention_bound(random_weights(4, 3, 1, heads=2, out=4), normal(2)(3, 4), 0.1)
    assert [what for what, other in said_otherwise(bound) if other.recheck()] == []
    assert [what for what, other in damaged(bound) if other.recheck()] == []
    for value in (bound.value * (1 - 1e-6), -1.0, math.inf, -math.inf):
        assert not dataclasses.replace(bound, value=value).recheck()
    wider = {**bound.witness, "radius": 0.2}
    assert not dataclasses.replace(bound, witness=wider).recheck()


def test_what_it_does_not_cover_is_refused():
    weights, state = random_weights(4, 3, 1), normal(2)(3, 4)
    normed = dataclasses.replace(weights, key_norm=NormWeights("rms", torch.ones(3, dtype=torch.float64)))
    for other, words in ((dataclasses.replace(weights, rotary=True), "rotary"), (normed, "key_norm")):
        with pytest.raises(InputError, match=words):
            local_attention_bound(other, state, 0.1)
    with pytest.raises(InputError, match="0, or at least 1e-25"):
        local_attention_bound(dataclasses.replace(weights, value=1e-150 * weights.value), state, 0.1)
    silent = dataclasses.replace(weights, value=0 * weights.value)
    assert local_attention_bound(silent, state, 0.1).value < 1e-9
    with pytest.raises(InputError) as raised:
        local_attention_bound(weights, state[:, :2], -1.0)
    assert [fault.where for fault in raised.value.faults] == ["state", "radius"]
