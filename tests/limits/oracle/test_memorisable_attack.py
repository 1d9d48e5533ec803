"""Attempts to get below the floor of one head, and to lose a prompt that exists. The sound side has no slack."""

import dataclasses

import pytest
import torch

from helpers.oracle_problems import attack, normal, prompted, random_sequences, random_weights
from helpers.tolerances import TOLERANCES
from promptreach.certificate import Verdict
from promptreach.limits import memorisable
from promptreach.limits.oracle.forward import last_outputs
from promptreach.limits.oracle.mass_search import minimise
from promptreach.limits.oracle.slots import one_slot
from promptreach.limits.oracle.statistics import head_statistics
from promptreach.prompt import Prefix

CASES = [(hidden, count) for hidden in (2, 3, 5, 8, 16) for count in (2, 3, 6, 10)]


def problem(hidden, count, seed):
    head_dim = max(2, hidden // (1 + seed % 2))
    out = (None, hidden, 3)[seed % 3]
    weights = random_weights(hidden, head_dim, seed, out=out, bias=seed % 2 == 0, size=(1.0, 3.0)[seed % 2])
    return weights, random_sequences(hidden, count, seed)


def assert_not_below(error, floor):
    assert error >= floor


@pytest.mark.parametrize(("hidden", "count"), CASES)
def test_no_optimiser_gets_below_the_floor_which_a_prefix_reaches(hidden, count):
    for seed in (hidden * 100 + count, hidden * 100 + count + 1):
        weights, sequences = problem(hidden, count, seed)
        targets = prompted(weights, sequences, 2, seed) + 0.3 * normal(seed)(count, weights.output_size)
        result = memorisable(weights, sequences, targets)
        for length in (1, 4):
            for prefix in (False, True):
                assert_not_below(attack(weights, sequences, targets, length, seed, prefix), result.floor.value)
        gap = TOLERANCES["oracle gap", torch.float64][0]
        assert result.floor.value <= result.upper.value
        if result.verdict is Verdict.IMPOSSIBLE:
            assert result.upper.value - result.floor.value <= gap * result.upper.value
        assert result.floor.recheck()
        assert result.upper.recheck()


@pytest.mark.parametrize(("hidden", "count"), CASES)
def test_a_prompt_that_exists_is_found(hidden, count):
    seed = hidden * 100 + count + 50
    weights, sequences = problem(hidden, count, seed)
    targets = prompted(weights, sequences, 1 + seed % 4, seed)
    result = memorisable(weights, sequences, targets, tol=1e-8)
    assert result.verdict is Verdict.POSSIBLE
    assert result.attained
    error = (last_outputs(weights, sequences, result.prefix) - targets).square().mean().sqrt()
    assert float(error) <= 1e-8 * float(targets.square().mean().sqrt())
    assert result.prompt is not None
    error = (last_outputs(weights, sequences, None, result.prompt) - targets).square().mean().sqrt()
    assert float(error) <= 1e-8 * float(targets.square().mean().sqrt())


@pytest.mark.parametrize("small", [1e-9, 1e-11, 1e-13, 1e-15, None])
def test_enormous_values_get_no_lower_where_a_projection_nearly_loses_directions(small):
    """Singular values 1, 1, small, small, or a product of thin matrices: all four directions can be reached."""
    for seed in range(4):
        draw = normal(seed)
        left, right = torch.linalg.qr(draw(8, 4))[0], torch.linalg.qr(draw(4, 4))[0]
        sizes = torch.tensor([1.0, 1.0, small or 0.0, small or 0.0]).double()
        output = left * sizes @ right if small else draw(8, 2) @ draw(2, 4)
        weights = dataclasses.replace(random_weights(6, 4, seed, out=8, bias=False), output=output)
        sequences, targets = random_sequences(6, 3, seed), draw(3, 8)
        statistics = head_statistics(weights, sequences)
        basis, singular, inner = torch.linalg.svd(output, full_matrices=False)
        found = minimise(statistics.lse, statistics.mean @ output.mT @ basis, targets @ basis)
        slots = one_slot(statistics, weights.softmax_scale, found.lse, inner.mT @ (found.mean / singular))
        prefix = Prefix(slots.keys[None, None], slots.values[None, None])
        error = float((last_outputs(weights, sequences, prefix) - targets).square().mean().sqrt())
        result = memorisable(weights, sequences, targets)
        assert_not_below(error, result.floor.value)
        assert result.floor.recheck()
        assert result.floor.value <= result.upper.value
        assert result.floor.value > 0


def test_the_attack_can_see_a_floor_that_is_too_high():
    weights, sequences = problem(5, 3, 7)
    targets = normal(7)(3, weights.output_size)
    result = memorisable(weights, sequences, targets)
    with pytest.raises(AssertionError):
        assert_not_below(result.upper.value, result.floor.value * (1 + 1e-6))
