"""Floors of too few soft tokens, against trained tokens, the mean of scores, tokens that run away, and tampering."""

import dataclasses
import math

import pytest
import torch

from helpers.oracle_problems import attack, normal, random_sequences, random_weights
from helpers.tampering import damaged, said_otherwise
from promptreach.certificate import Evidence, Side
from promptreach.errors import InputError
from promptreach.limits import nearly_one_slot, rank_one_separation, soft_token_floor, token_floor, token_floors
from promptreach.limits.oracle.forward import last_outputs
from promptreach.limits.oracle.statistics import head_statistics, scores_of
from promptreach.prompt import SoftPrompt
from promptreach.weights import LayerWeights


def lined_up(weights, sequences, seed):
    """Targets on lines through the outputs: what one free slot comes near to."""
    bare, draw = last_outputs(weights, sequences), normal(seed)
    return bare + draw(len(bare), 1).abs() * draw(1, bare.shape[1])


@pytest.mark.parametrize("out", [None, 7])
def test_soft_tokens_stay_above_the_floor_where_slots_do_not(out):
    above = 0
    for seed in range(6):
        weights = random_weights(5, 5, seed, out=out)
        sequences = random_sequences(5, 3, seed, groups=3)
        targets = lined_up(weights, sequences, seed)
        for tokens in (1, 2):
            floor = soft_token_floor(weights, sequences, targets, tokens)
            assert (floor.side, floor.evidence, floor.rechecked) == (Side.LOWER, Evidence.PROVED, True)
            above += floor.value > 0
            draw = normal(seed)
            for size in (0.5, 3.0, 50.0):
                error = last_outputs(weights, sequences, None, SoftPrompt(size * draw(tokens, 5))) - targets
                assert float(error.square().mean().sqrt()) >= floor.value
    assert above >= 8


def test_training_at_one_query_stays_above_it():
    for seed in range(3):
        weights = random_weights(4, 4, seed, bias=False)
        sequences = random_sequences(4, 3, seed)
        targets = lined_up(weights, sequences, seed)
        floor = soft_token_floor(weights, sequences, targets, 1).value
        assert attack(weights, sequences, targets, 1, seed) >= floor


def test_the_mean_of_scores_is_the_log_mass_less_the_entropy():
    weights, draw = random_weights(5, 5, 1, out=6), normal(3)
    sequence, tokens = draw(3, 5), draw(4, 5)
    found, (_, slope, offset, _) = head_statistics(weights, [sequence]), scores_of(weights, sequence[-1], 0)
    values = weights.output @ weights.value[0]
    row = torch.linalg.pinv(values.mT) @ slope.centre
    scores = tokens @ slope.centre + offset.centre
    mass, shares = torch.logsumexp(scores, 0), scores.softmax(0)
    entropy = -(shares * shares.log()).sum()
    shift = weights.output @ weights.value_bias[0]
    bare = weights.output @ found.mean[0]
    reached = last_outputs(weights, [sequence], None, SoftPrompt(tokens))[0] - weights.output_bias
    level = mass - found.lse[0]
    offset_k = found.lse[0] - offset.centre[0] + row @ (shift - bare)
    assert float(row @ (reached - bare)) == pytest.approx(float(level.sigmoid() * (offset_k + level - entropy)))


def test_as_many_tokens_as_examples_have_no_floor_and_more_tokens_no_higher_one():
    weights = random_weights(6, 6, 2)
    data = rank_one_separation(LayerWeights(weights), 4)
    floors = [soft_token_floor(weights, data.sequences, data.targets, tokens).value for tokens in range(1, 6)]
    assert floors[2] > 0
    assert floors[3:] == [0, 0]
    assert floors == sorted(floors, reverse=True)
    # The floor of free slots is 0 there, as one of them comes arbitrarily near.
    assert token_floors(weights, data.sequences, data.targets, [1])[0].value < floors[0]
    assert nearly_one_slot(weights, data, 1e6)[1] < floors[0]


def test_tokens_that_run_away_where_no_key_sees_them_have_no_floor():
    weights, draw = random_weights(6, 6, 4, bias=False), normal(5)
    sequences = random_sequences(6, 3, 4, groups=3)
    slopes = torch.stack([scores_of(weights, item[-1], 0)[1].centre for item in sequences])
    masses = torch.cat([head_statistics(weights, [item]).lse for item in sequences])
    unseen = torch.linalg.svd(slopes)[2][-1]
    targets = last_outputs(weights, sequences) + unseen @ weights.value[0].mT
    floors = [soft_token_floor(weights, sequences, targets, 1).value]
    errors = []
    for size in (1e2, 1e4, 1e6):
        low = torch.linalg.lstsq(slopes, (masses - math.log(size))[:, None], driver="gelsd").solution[:, 0]
        prompt = SoftPrompt((size * unseen + low)[None])
        errors.append(float((last_outputs(weights, sequences, None, prompt) - targets).square().mean().sqrt()))
    assert errors[2] < errors[1] / 10 < errors[0] / 100
    assert floors[0] <= errors[2]
    assert draw(1).numel() == 1


def test_floors_of_slots_hold_for_soft_tokens_as_well():
    weights = random_weights(8, 8, 3)
    sequences = random_sequences(8, 3, 3, groups=3)
    targets = normal(6)(3, 8)
    assert token_floors(weights, sequences, targets, [1])[0].value > 0
    outputs = last_outputs(weights, sequences) - weights.output_bias
    assert token_floor(outputs, targets - weights.output_bias, 1).value > 0
    assert soft_token_floor(weights, sequences, targets, 1).evidence is Evidence.PROVED


def test_a_floor_that_was_changed_is_refused():
    weights = random_weights(4, 4, 2)
    sequences = random_sequences(4, 2, 2, groups=2)
    floor = next(
        found
        for seed in range(9)
        if (found := soft_token_floor(weights, sequences, lined_up(weights, sequences, seed), 1)).value > 0
    )
    assert [what for what, other in said_otherwise(floor) if other.recheck()] == []
    assert [what for what, other in damaged(floor) if other.recheck()] == []
    for value in (floor.value * (1 + 1e-9), math.inf, -1.0):
        assert not dataclasses.replace(floor, value=value).recheck()
    witness = floor.witness
    for name, other in {
        "log_masses": witness["log_masses"] + 0.5,
        "error": witness["error"] * 1.5,
        "span": 2 * torch.ones_like(witness["span"]),
        "tokens": 2,
    }.items():
        assert not dataclasses.replace(floor, witness={**witness, name: other}).recheck()


def test_heads_whose_keys_are_free_of_their_values_are_refused():
    sequences, targets = random_sequences(6, 2, 0), normal(1)(2, 3)
    with pytest.raises(InputError, match="Use token_floor"):
        soft_token_floor(random_weights(6, 3, 0), sequences, targets, 1)
    with pytest.raises(InputError, match="tokens: 0"):
        soft_token_floor(random_weights(6, 6, 0), sequences, normal(1)(2, 6), 0)
    with pytest.raises(InputError, match="2 heads"):
        soft_token_floor(random_weights(6, 3, 0, heads=2), sequences, normal(1)(2, 6), 1)
