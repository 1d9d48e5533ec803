"""Built soft tokens have the mass and mean they were asked for, with as few of them as the theorem says."""

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.oracle_problems import normal, random_sequences, random_weights
from helpers.tolerances import assert_close
from promptreach.limits.oracle.slots import Wish, shared_slots
from promptreach.limits.oracle.soft_tokens import soft_tokens, tokens_for_slots
from promptreach.limits.oracle.statistics import head_statistics


def mass_and_mean(statistics, tokens, value, value_bias):
    scores = tokens @ statistics.slope + statistics.offset
    return torch.logsumexp(scores, 0), torch.softmax(scores, 0) @ (tokens @ value.T + value_bias)


def setting(hidden, head_dim, seed):
    weights = random_weights(hidden, head_dim, seed)
    return weights, head_statistics(weights, random_sequences(hidden, 2, seed))


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.floats(-20, 20))
def test_one_token_suffices_when_values_do_not_see_every_direction(seed, lse):
    weights, statistics = setting(6, 4, seed)
    mean = normal(seed)(4)
    found = soft_tokens(statistics, weights.value[0], weights.value_bias[0], lse, mean)
    assert found.number == 1
    got_mass, got_mean = mass_and_mean(statistics, found.tokens, weights.value[0], weights.value_bias[0])
    assert_close(got_mass, torch.tensor(lse, dtype=torch.float64), "built prompt")
    assert_close(got_mean, mean, "built prompt")


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.integers(1, 9))
def test_a_square_value_projection_needs_what_the_entropy_says_and_no_more(seed, length):
    """Any prompt of `length` tokens is matched by one of at most as many, never by fewer than exp(entropy)."""
    weights, statistics = setting(5, 5, seed)
    tokens = normal(seed)(length, 5)
    value, bias = weights.value[0], weights.value_bias[0]
    lse, mean = mass_and_mean(statistics, tokens, value, bias)
    found = soft_tokens(statistics, value, bias, float(lse), mean)
    assert found.number is not None
    assert found.number <= length
    shares = torch.softmax(tokens @ statistics.slope, 0)
    entropy = float(-(shares * torch.log(shares)).sum())
    assert found.number >= math.exp(entropy) * (1 - 1e-6)
    got_mass, got_mean = mass_and_mean(statistics, found.tokens, value, bias)
    assert_close(got_mass, lse, "built prompt")
    assert_close(got_mean, mean, "built prompt")


def test_equal_tokens_need_all_of_themselves():
    weights, statistics = setting(5, 5, 1)
    value, bias = weights.value[0], weights.value_bias[0]
    for length in (1, 2, 4, 7):
        lse, mean = mass_and_mean(statistics, normal(1)(1, 5).repeat(length, 1), value, bias)
        assert soft_tokens(statistics, value, bias, float(lse), mean).number == length


def test_too_little_mass_for_its_mean_is_out_of_reach_of_every_number_of_tokens():
    weights, statistics = setting(5, 5, 2)
    value, bias = weights.value[0], weights.value_bias[0]
    lse, mean = mass_and_mean(statistics, normal(2)(1, 5), value, bias)
    found = soft_tokens(statistics, value, bias, float(lse) - 0.1, mean)
    assert (found.number, found.tokens) == (None, None)
    assert "no number" in found.reason


def test_slots_for_several_queries_have_every_mass_and_mean_and_so_do_their_tokens():
    weights = random_weights(14, 4, 3)
    sequences = random_sequences(14, 3, 3, groups=3)
    draw = normal(3)
    wishes = [Wish(head_statistics(weights, [s]), float(draw(1) * 3), draw(4)) for s in sequences]
    slots = shared_slots(wishes, weights.softmax_scale)
    tokens = tokens_for_slots([wishes], [slots], weights.softmax_scale, weights.value, weights.value_bias)
    for wish in wishes:
        scores = weights.softmax_scale * slots.keys @ wish.statistics.query
        assert_close(torch.logsumexp(scores, 0), torch.tensor(wish.lse, dtype=torch.float64), "built prompt")
        assert_close(torch.softmax(scores, 0) @ slots.values, wish.mean, "built prompt")
        got_mass, got_mean = mass_and_mean(wish.statistics, tokens, weights.value[0], weights.value_bias[0])
        assert_close(got_mass, torch.tensor(wish.lse, dtype=torch.float64), "built prompt")
        assert_close(got_mean, wish.mean, "built prompt")
