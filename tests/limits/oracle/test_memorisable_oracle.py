"""Problems with a known answer: what a prompt can and cannot do, and how bad input is met."""

import dataclasses
import math

import pytest
import torch

from helpers.oracle_problems import normal, prompted, random_sequences, random_weights
from helpers.tolerances import TOLERANCES, assert_close
from promptreach.attention import statistics
from promptreach.certificate import Verdict
from promptreach.limits import memorisable, memorisable_statistics
from promptreach.limits.oracle.forward import last_outputs
from promptreach.limits.oracle.statistics import head_statistics
from promptreach.prompt import Prefix

VALUE = TOLERANCES["oracle value", torch.float64][0]


def column(*values):
    return torch.tensor(values, dtype=torch.float64)[:, None]


def test_a_zero_query_through_the_front():
    weights = dataclasses.replace(random_weights(6, 3, 1), query_bias=None)
    sequences = [
        torch.cat([sequence[:-1], torch.zeros(1, 6, dtype=torch.float64)]) for sequence in random_sequences(6, 4, 1)
    ]
    keys, values = torch.zeros(1, 1, 3, 3, dtype=torch.float64), normal(2)(1, 1, 3, 3)
    targets = last_outputs(weights, sequences, Prefix(keys, values))
    result = memorisable(weights, sequences, targets)
    assert result.verdict is Verdict.POSSIBLE
    assert result.prefix is not None
    assert result.prefix.length == 3
    assert result.floor.recheck()


def test_two_heads_with_zero_queries_may_want_no_prompt_at_all():
    weights = random_weights(6, 4, 2, heads=2, bias=False)
    weights = dataclasses.replace(weights, query=torch.zeros_like(weights.query))
    sequences = random_sequences(6, 3, 2)
    result = memorisable(weights, sequences, last_outputs(weights, sequences))
    assert (result.verdict, result.prefix, result.prompt) == (Verdict.POSSIBLE, None, None)
    assert "no prompt" in result.upper.claim


@pytest.mark.parametrize("lse", [6.0, 60.0])
def test_captured_zero_queries_want_more_slots_than_are_built(lse):
    """Content +-1 and targets +-1/2 want as much mass as the content has."""
    masses, mean = torch.full((2,), lse).double(), column(1.0, -1.0)
    result = memorisable_statistics(torch.zeros(2).double(), masses, mean, 0.5 * mean)
    assert (result.prefix is None) == (lse > 10)
    assert result.verdict is (Verdict.UNKNOWN if lse > 10 else result.verdict)
    assert result.floor.value <= result.upper.value
    assert ("without a prompt" in result.upper.claim) == (lse > 10)


def test_weights_under_training_are_taken_as_they_stand():
    weights, sequences = random_weights(6, 4, 3), random_sequences(6, 3, 3)
    targets = normal(3)(3, 4)
    learning = dataclasses.replace(weights, value=weights.value.clone().requires_grad_())
    result = memorisable(learning, [s.clone().requires_grad_() for s in sequences], targets.clone().requires_grad_())
    assert result.floor.value == memorisable(weights, sequences, targets).floor.value
    assert result.floor.recheck()
    assert result.upper.recheck()
    assert not result.prefix.values.requires_grad


@pytest.mark.parametrize("seed", range(10))
def test_a_measured_error_is_confirmed_for_targets_of_zero(seed):
    weights, sequences = random_weights(6, 4, seed), random_sequences(6, 1, seed)
    assert memorisable(weights, sequences, torch.zeros(1, 4).double()).upper.recheck()


def test_contradicting_targets_leave_half_their_distance():
    weights, sequence = random_weights(5, 5, 0), random_sequences(5, 1, 0)[0]
    targets = normal(1)(2, 5)
    result = memorisable(weights, [sequence, sequence], targets)
    assert result.verdict is Verdict.IMPOSSIBLE
    assert "no prompt of any length errs by less than" in result.reason
    assert result.floor.value == pytest.approx(float((targets[0] - targets[1]).norm()) / 2 / math.sqrt(5), rel=VALUE)
    assert result.floor.recheck()


def test_duplicate_examples_with_equal_targets_change_nothing():
    weights, sequences = random_weights(6, 4, 2), random_sequences(6, 3, 2)
    targets = normal(3)(3, 4)
    once = memorisable(weights, sequences, targets).floor.value
    twice = memorisable(weights, sequences * 2, torch.cat([targets, targets])).floor.value
    assert once == pytest.approx(twice, rel=VALUE)


def test_one_example_is_always_possible_with_one_token():
    weights = random_weights(6, 3, 4)
    result = memorisable(weights, random_sequences(6, 1, 4), normal(4)(1, 3))
    assert (result.verdict, result.prompt_verdict, result.min_tokens) == (Verdict.POSSIBLE, Verdict.POSSIBLE, (1,))


def test_what_the_output_projection_cannot_reach_stays():
    weights = random_weights(6, 2, 5, out=5)
    sequences = random_sequences(6, 1, 5)
    targets = normal(6)(1, 5)
    basis = torch.linalg.qr(weights.output)[0]
    rest = targets - weights.output_bias
    rest = rest - rest @ basis @ basis.T
    result = memorisable(weights, sequences, targets)
    assert result.verdict is Verdict.IMPOSSIBLE
    assert result.floor.value == pytest.approx(float(rest.norm()) / math.sqrt(5), rel=VALUE)


def test_rank_deficient_projections_are_decided_for_values_of_any_size():
    weights = random_weights(6, 4, 6, out=4, bias=False)
    thin = (
        weights.output
        @ torch.diag(torch.tensor([1.0, 1.0, 0.0, 0.0], dtype=torch.float64))
        @ torch.linalg.qr(normal(6)(4, 4))[0]
    )
    weights = dataclasses.replace(weights, output=thin)
    sequences = random_sequences(6, 3, 6)
    result = memorisable(weights, sequences, normal(7)(3, 4))
    assert result.verdict is Verdict.IMPOSSIBLE
    assert "every prompt of any length, the root" in result.floor.claim
    assert 0 < result.floor.value < result.upper.value
    assert result.floor.recheck()
    assert not result.attained
    reached = memorisable(weights, sequences, prompted(weights, sequences, 2, 6))
    assert reached.verdict is Verdict.POSSIBLE


@pytest.mark.parametrize("name", ["query", "key", "value", "output"])
def test_zero_weights_get_a_verdict(name):
    weights = random_weights(5, 3, 8, out=4, bias=False)
    weights = dataclasses.replace(weights, **{name: torch.zeros_like(getattr(weights, name))})
    result = memorisable(weights, random_sequences(5, 3, 8), normal(8)(3, 4))
    assert result.verdict in (Verdict.IMPOSSIBLE, Verdict.UNKNOWN)
    assert result.floor.value <= result.upper.value
    assert result.floor.recheck()
    if name == "output":
        assert result.floor.value == pytest.approx(float(normal(8)(3, 4).square().mean().sqrt()), rel=VALUE)


@pytest.mark.parametrize("groups", [2, 3])
def test_several_queries_share_one_prompt(groups):
    weights, sequences = random_weights(12, 4, 9), random_sequences(12, 3 * groups, 9, groups)
    targets = prompted(weights, sequences, 3, 9)
    result = memorisable(weights, sequences, targets, tol=1e-8)
    assert result.verdict is Verdict.POSSIBLE
    assert result.prompt is not None
    assert len(result.min_tokens) == groups
    noisy = memorisable(weights, sequences, targets + 0.1 * normal(9)(*targets.shape))
    assert noisy.verdict is Verdict.IMPOSSIBLE
    assert noisy.floor.recheck()
    assert noisy.upper.value <= noisy.floor.value * (1 + 1e-6)


def test_more_queries_than_a_key_has_dimensions_are_bounded_from_both_sides():
    weights, sequences = random_weights(4, 2, 10), random_sequences(4, 8, 10, groups=4)
    result = memorisable(weights, sequences, prompted(weights, sequences, 2, 10))
    assert result.verdict in (Verdict.POSSIBLE, Verdict.UNKNOWN)
    assert 0.0 <= result.floor.value <= result.upper.value
    assert result.floor.recheck()


def test_captured_statistics_give_the_same_answer_as_the_weights():
    weights, sequences = random_weights(6, 4, 11, bias=False), random_sequences(6, 4, 11)
    weights = dataclasses.replace(weights, scale=0.3)  # not the usual one, so that the captured one has to be used
    targets = normal(11)(4, 4)
    direct = memorisable(weights, sequences, targets)
    query = weights.query[0] @ sequences[0][-1]
    parts = [
        statistics(query[None], s @ weights.key[0].T, s @ weights.value[0].T, weights.softmax_scale) for s in sequences
    ]
    lse, mean = torch.cat([part.lse for part in parts]), torch.cat([part.mean for part in parts])
    captured = memorisable_statistics(query, lse, mean, targets, scale=weights.softmax_scale)
    assert captured.verdict is direct.verdict
    assert captured.floor.value == pytest.approx(direct.floor.value, rel=VALUE)
    assert captured.floor.recheck()
    assert_close(captured.prefix.values, direct.prefix.values, "oracle value")
    assert_close(captured.prefix.keys, direct.prefix.keys, "oracle value")


def test_captured_statistics_behind_an_output_projection_give_the_same_answer_too():
    weights, sequences = random_weights(6, 4, 13, out=7, bias=False), random_sequences(6, 4, 13)
    targets = normal(13)(4, 7)
    direct = memorisable(weights, sequences, targets)
    parts = head_statistics(weights, sequences)
    captured = memorisable_statistics(
        weights.query[0] @ sequences[0][-1], parts.lse, parts.mean, targets, output=weights.output
    )
    assert captured.floor.value == pytest.approx(direct.floor.value, rel=VALUE)
    assert captured.upper.value == pytest.approx(direct.upper.value, rel=VALUE)
    assert captured.groups[0].examples == direct.groups[0].examples == (0, 1, 2, 3)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_keys_that_see_no_token_make_every_token_weigh_the_same(count):
    weights = random_weights(6, 3, 14)
    weights = dataclasses.replace(weights, key=torch.zeros_like(weights.key))
    sequences = random_sequences(6, 3, 14)
    result = memorisable(weights, sequences, prompted(weights, sequences, count, 14))
    assert (result.prompt_verdict, result.min_tokens) == (Verdict.POSSIBLE, (count,))


def test_causal_weights_and_half_precision_inputs_are_welcome():
    weights, sequences = random_weights(6, 4, 12), random_sequences(6, 3, 12)
    targets = normal(12)(3, 4)
    plain = memorisable(weights, sequences, targets).floor.value
    assert memorisable(dataclasses.replace(weights, causal=True), sequences, targets).floor.value == plain
    mixed = [sequences[0].float(), sequences[1].double(), sequences[2].bfloat16()]
    mixed = [torch.cat([s[:-1], torch.ones(1, 6).to(s)]) for s in mixed]
    assert len(memorisable(weights.to(torch.float32), mixed, targets).groups) == 1
