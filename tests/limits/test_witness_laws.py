"""What built prompts have: the mass and mean they were asked for, with as few tokens as the theorem says."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.oracle_problems import normal, random_sequences, random_weights
from helpers.tolerances import assert_close
from promptreach.limits.oracle.groups import Wish, shared_slots, tokens_for_slots
from promptreach.limits.oracle.statistics import head_statistics
from promptreach.limits.oracle.witness import last_outputs, one_slot, soft_tokens
from promptreach.prompt import Prefix


def mass_and_mean(statistics, tokens, value, value_bias):
    scores = tokens @ statistics.slope + statistics.offset
    return torch.logsumexp(scores, 0), torch.softmax(scores, 0) @ (tokens @ value.T + value_bias)


def setting(hidden, head_dim, seed):
    weights = random_weights(hidden, head_dim, seed)
    return weights, head_statistics(weights, random_sequences(hidden, 2, seed))


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.floats(-30, 30))
def test_one_slot_has_any_mass_and_mean(seed, log_mass):
    weights, statistics = setting(6, 4, seed)
    mean = normal(seed)(4)
    keys, values = one_slot(statistics, weights.softmax_scale, log_mass, mean)
    score = weights.softmax_scale * keys[0] @ statistics.query
    assert_close(score, torch.tensor(log_mass, dtype=torch.float64), "built prompt")
    assert torch.equal(values[0], mean)


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.floats(-20, 20))
def test_one_token_suffices_when_values_do_not_see_every_direction(seed, log_mass):
    weights, statistics = setting(6, 4, seed)
    mean = normal(seed)(4)
    found = soft_tokens(statistics, weights.value[0], weights.value_bias[0], log_mass, mean)
    assert found.number == 1
    got_mass, got_mean = mass_and_mean(statistics, found.tokens, weights.value[0], weights.value_bias[0])
    assert_close(got_mass, torch.tensor(log_mass, dtype=torch.float64), "built prompt")
    assert_close(got_mean, mean, "built prompt")


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.integers(1, 9))
def test_a_square_value_projection_needs_what_the_entropy_says_and_no_more(seed, length):
    """Any prompt of `length` tokens is matched by one of at most as many, never by fewer than exp(entropy)."""
    weights, statistics = setting(5, 5, seed)
    tokens = normal(seed)(length, 5)
    value, bias = weights.value[0], weights.value_bias[0]
    log_mass, mean = mass_and_mean(statistics, tokens, value, bias)
    found = soft_tokens(statistics, value, bias, float(log_mass), mean)
    assert found.number is not None
    assert found.number <= length
    shares = torch.softmax(tokens @ statistics.slope, 0)
    entropy = float(-(shares * torch.log(shares)).sum())
    assert found.number >= math.exp(entropy) * (1 - 1e-6)
    got_mass, got_mean = mass_and_mean(statistics, found.tokens, value, bias)
    assert_close(got_mass, log_mass, "built prompt")
    assert_close(got_mean, mean, "built prompt")


def test_equal_tokens_need_all_of_themselves():
    weights, statistics = setting(5, 5, 1)
    value, bias = weights.value[0], weights.value_bias[0]
    for length in (1, 2, 4, 7):
        log_mass, mean = mass_and_mean(statistics, normal(1)(1, 5).repeat(length, 1), value, bias)
        assert soft_tokens(statistics, value, bias, float(log_mass), mean).number == length


def test_too_little_mass_for_its_mean_is_out_of_reach_of_every_number_of_tokens():
    weights, statistics = setting(5, 5, 2)
    value, bias = weights.value[0], weights.value_bias[0]
    log_mass, mean = mass_and_mean(statistics, normal(2)(1, 5), value, bias)
    found = soft_tokens(statistics, value, bias, float(log_mass) - 0.1, mean)
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
        assert_close(torch.logsumexp(scores, 0), torch.tensor(wish.log_mass, dtype=torch.float64), "built prompt")
        assert_close(torch.softmax(scores, 0) @ slots.values, wish.mean, "built prompt")
        got_mass, got_mean = mass_and_mean(wish.statistics, tokens, weights.value[0], weights.value_bias[0])
        assert_close(got_mass, torch.tensor(wish.log_mass, dtype=torch.float64), "built prompt")
        assert_close(got_mean, wish.mean, "built prompt")


def test_dependent_queries_are_not_promised_slots():
    weights = random_weights(6, 2, 4)
    wishes = [Wish(head_statistics(weights, [s]), 0.0, normal(4)(2)) for s in random_sequences(6, 3, 4, groups=3)]
    assert shared_slots(wishes, weights.softmax_scale) is None


@pytest.mark.parametrize(("heads", "kv_heads"), [(1, 1), (4, 2)])
def test_both_forward_passes_agree(heads, kv_heads):
    weights = random_weights(6, 3, 5, heads, kv_heads, out=5)
    sequences, draw = random_sequences(6, 3, 5), normal(5)
    prefix = Prefix(draw(1, kv_heads, 2, 3), draw(1, kv_heads, 2, 3))
    for given_prefix in (None, prefix):
        loops, products = (last_outputs(weights, sequences, given_prefix, None, loops) for loops in (True, False))
        assert_close(loops, products, "attention output")


def test_the_rounding_account_of_the_statistics_holds_against_many_digits():
    from fractions import Fraction

    weights, sequences = random_weights(6, 4, 6, size=4.0), random_sequences(6, 3, 6)
    statistics = head_statistics(weights, sequences)
    exact = [
        [[Fraction(x) for x in row] for row in m.tolist()] for m in (weights.query[0], weights.key[0], weights.value[0])
    ]
    biases = [[Fraction(x) for x in b[0].tolist()] for b in (weights.query_bias, weights.key_bias, weights.value_bias)]

    def project(index, token):
        rows = zip(exact[index], biases[index], strict=True)
        return [sum((w * Fraction(x) for w, x in zip(row, token, strict=True)), bias) for row, bias in rows]

    for example, sequence in enumerate(sequences):
        query = project(0, sequence[-1].tolist())
        keys = [project(1, token) for token in sequence.tolist()]
        scores = [Fraction(weights.softmax_scale) * sum(q * k for q, k in zip(query, key, strict=True)) for key in keys]
        # The scores are exact here; math.exp and fsum then err by a few units in the last place.
        top = max(scores)
        log_mass = float(top) + math.log(math.fsum(math.exp(float(score - top)) for score in scores))
        assert abs(float(statistics.log_mass[example]) - log_mass) <= float(statistics.log_mass_error[example])
        assert float(statistics.log_mass_error[example]) < 1e-11
        assert float(statistics.mean_error[example]) < 1e-11
