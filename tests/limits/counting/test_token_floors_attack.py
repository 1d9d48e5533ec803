"""Floors of prompts with too few tokens, against prefixes, exact cases and changed certificates."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from helpers.oracle_problems import normal, prompted, random_sequences, random_weights
from helpers.tampering import damaged, said_otherwise
from helpers.tolerances import TOLERANCES
from promptreach.certificate import Evidence, Side
from promptreach.errors import InputError
from promptreach.limits import memorisable, memorisable_statistics, token_floor, token_floors, tokens_needed
from promptreach.limits.oracle.forward import last_outputs
from promptreach.prompt import Prefix, SoftPrompt

CLOSE = TOLERANCES["oracle value", torch.float64][0]


def best_of_prefixes(outputs, targets, tokens, pick, tries=60):
    """The least root-mean-square error over random shares and mixtures, each with the best values of every head."""
    least, (heads, n, _) = math.inf, outputs.shape
    for _ in range(tries):
        scores = pick.normal(size=(heads, n, tokens + 1)) * pick.choice([0.3, 2.0, 8.0])
        shares = np.exp(scores - scores.max(2, keepdims=True))
        shares /= shares.sum(2, keepdims=True)
        wanted = targets - (shares[..., :1] * outputs).sum(0)
        mixtures = np.concatenate(list(shares[..., 1:]), axis=1)
        values = np.linalg.lstsq(mixtures, wanted, rcond=None)[0]
        least = min(least, float(((mixtures @ values - wanted) ** 2).mean()) ** 0.5)
    return least


@pytest.mark.parametrize("heads", [1, 2])
def test_no_prefix_with_too_few_slots_errs_by_less(heads):
    above, pick = [], np.random.default_rng(heads)
    for _ in range(30):
        n, out = int(pick.integers(heads + 1, 8)), int(pick.integers(2, 20))
        outputs, targets = pick.normal(size=(heads, n, out)), pick.normal(size=(n, out))
        targets = outputs.sum(0) + 0.1 * targets if pick.random() < 0.5 else targets
        tokens = int(pick.integers(1, (n - 1) // heads + 1))
        floor = token_floor(torch.from_numpy(outputs), torch.from_numpy(targets), tokens)
        assert floor.evidence is Evidence.PROVED
        assert floor.rechecked
        assert floor.side is Side.LOWER
        above.append(floor.value > 0)
        assert best_of_prefixes(outputs, targets, tokens, pick) >= floor.value
    assert sum(above) >= 12


def test_the_floor_is_at_least_what_the_least_singular_value_gives_and_goes_on_where_that_is_0():
    for seed in range(5):
        outputs, targets = normal(seed)(5, 12), normal(seed + 50)(5, 12)
        least = float(torch.linalg.svdvals(torch.cat([outputs, targets]))[-1])
        for tokens in range(5):
            plain = math.sqrt((5 - tokens) / 60) * least
            assert token_floor(outputs, targets, tokens).value >= plain * (1 - CLOSE)
        crowded = token_floor(outputs[:, :6], targets[:, :6], 1)
        assert crowded.value > 0
        assert crowded.rechecked


def test_heads_that_give_nothing_are_left_with_the_targets_own_singular_values():
    targets = normal(3)(5, 7)
    for tokens in range(6):
        exact = float(torch.linalg.svdvals(targets)[tokens:].norm()) / math.sqrt(35)
        floor = token_floor(torch.zeros(5, 7, dtype=torch.float64), targets, tokens).value
        assert exact * (1 - CLOSE) <= floor <= exact if tokens < 5 else floor == 0


def test_two_examples_and_one_token_lie_close_to_the_best_shares():
    grid = torch.linspace(0, 1, 101, dtype=torch.float64)
    for seed in range(5):
        outputs, targets = normal(seed)(2, 6), normal(seed + 9)(2, 6)
        rows = targets[None] - torch.cartesian_prod(grid, grid)[..., None] * outputs[None]
        least = float(torch.linalg.svdvals(rows)[:, 1].min()) / math.sqrt(12)
        assert 0.7 * least <= token_floor(outputs, targets, 1).value <= least


def test_a_prompt_that_fits_has_no_floor_and_one_token_less_has_one():
    weights = random_weights(20, 16, 3, out=20)
    sequences, targets, _, prompt = tokens_needed(weights, 4)
    floors = token_floors(weights, sequences, targets, range(6))
    assert [floor.value > 0 for floor in floors] == [True, True, True, True, False, False]
    assert all(floor.rechecked for floor in floors)
    assert [floor.value for floor in floors] == sorted((floor.value for floor in floors), reverse=True)
    assert len(token_floors(weights, sequences, targets)) == 3
    for kept in range(1, 4):
        shorter = SoftPrompt(prompt.embeddings[:kept])
        error = (last_outputs(weights, sequences, None, shorter) - targets).square().mean().sqrt()
        assert floors[kept].value <= float(error)


@pytest.mark.parametrize(("heads", "kv_heads", "out"), [(1, 1, None), (2, 1, 9), (2, 2, None)])
def test_the_oracle_gives_a_floor_for_each_length_that_prompts_run_into(heads, kv_heads, out):
    weights = random_weights(9, 4, 5, heads=heads, kv_heads=kv_heads, out=out)
    sequences = random_sequences(9, 5, 2, groups=2)
    targets = normal(8)(5, weights.output_size)
    found = memorisable(weights, sequences, targets, lengths=(1, 2))
    assert len(found.token_floors) == 2
    assert all(floor.rechecked for floor in found.token_floors)
    assert found.token_floors[0].value > 0
    assert memorisable(weights, sequences, targets).token_floors == ()
    draw = normal(4)
    for tokens, floor in zip((1, 2), found.token_floors, strict=True):
        for _ in range(10):
            prefix = Prefix(3 * draw(1, kv_heads, tokens, 4), draw(1, kv_heads, tokens, 4))
            error = (last_outputs(weights, sequences, prefix) - targets).square().mean().sqrt()
            assert float(error) >= floor.value
        reached = prompted(weights, sequences, tokens, tokens)
        assert token_floors(weights, sequences, reached, [tokens])[0].value < 1e-9


def test_captured_statistics_have_floors_too():
    draw = normal(6)
    mean, output = draw(4, 5), draw(9, 5)
    found = memorisable_statistics(draw(3), draw(4), mean, draw(4, 9), output, lengths=[1])
    assert found.token_floors[0].value > 0
    assert found.token_floors[0].rechecked


def test_outputs_that_may_be_off_lower_the_floor_by_that_much():
    outputs, targets = normal(1)(4, 9), normal(2)(4, 9)
    exact, near = (token_floor(outputs, targets, 2, error).value for error in (0.0, 0.3))
    assert near == pytest.approx(exact - 0.3 / 6)
    assert token_floor(outputs, targets, 2, 100.0).value == 0


@pytest.mark.parametrize("size", [1e-200, 1e-9, 1e29])
def test_sizes_do_not_matter(size):
    outputs, targets = normal(1)(4, 9), normal(2)(4, 9)
    floor = token_floor(outputs * size, targets * size, 2)
    assert floor.rechecked
    assert floor.value == pytest.approx(token_floor(outputs, targets, 2).value * size)


@pytest.mark.parametrize("heads", [1, 3])
def test_floors_of_dependent_data_are_confirmed_too(heads):
    # What rounding leaves of rows that depend on each other once passed for directions in the second path.
    refused, pick = [], np.random.default_rng(heads)
    for _ in range(150):
        n, width, out = 8, 2 * heads, int(pick.integers(2 * heads + 1, 5 * heads + 12))
        outputs = pick.normal(size=(heads, n, width)) @ pick.normal(size=(heads, width, out))
        targets = outputs.sum(0) + 10.0 ** pick.uniform(-3, 0) * pick.normal(size=(n, out))
        floor = token_floor(torch.from_numpy(outputs), torch.from_numpy(targets), 2)
        refused.append(floor.evidence is not Evidence.PROVED)
    assert not any(refused)


def test_a_floor_that_was_changed_is_refused():
    floor = token_floor(normal(1)(4, 6), normal(2)(4, 6), 2)
    assert float(floor.witness["multipliers"].max()) > 0
    assert [what for what, other in said_otherwise(floor) if other.recheck()] == []
    assert [what for what, other in damaged(floor) if other.recheck()] == []
    for value in (floor.value * 1.000001, math.inf, -1.0):
        assert not dataclasses.replace(floor, value=value).recheck()
    for name, other in {"tokens": 3, "targets": normal(2)(4, 6) * 0.9, "multipliers": normal(2)(1, 4)}.items():
        assert not dataclasses.replace(floor, witness={**floor.witness, name: other}).recheck()


def test_bad_arguments_are_refused_together():
    with pytest.raises(InputError) as raised:
        token_floor(normal(0)(3, 4), normal(1)(3, 5), -1, -0.5)
    assert [fault.where for fault in raised.value.faults] == ["targets", "tokens", "output_error"]
    with pytest.raises(InputError, match="tokens: -2; expected a whole number"):
        memorisable(random_weights(6, 4, 0), random_sequences(6, 2, 0), normal(0)(2, 4), lengths=[-2])
    with pytest.raises(InputError, match="not empty"):
        token_floor(normal(0)(0, 4), normal(1)(0, 4), 1)
