"""Attempts to get below the floor of one head, and to lose a prompt that exists. The sound side has no slack."""

import dataclasses
import json

import pytest
import torch

from helpers.oracle_problems import attack, normal, prompted, random_sequences, random_weights
from helpers.tolerances import TOLERANCES
from promptreach.certificate import Certificate, Evidence, Side, Verdict
from promptreach.limits import memorisable
from promptreach.limits.oracle.certified import minimise
from promptreach.limits.oracle.statistics import head_statistics
from promptreach.limits.oracle.witness import last_outputs, one_slot
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
        found = minimise(statistics.log_mass, statistics.mean @ output.mT @ basis, targets @ basis)
        slots = one_slot(statistics, weights.softmax_scale, found.log_mass, inner.mT @ (found.mean / singular))
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


@pytest.mark.parametrize("seed", range(40))
def test_the_search_agrees_with_a_dense_scan_over_spread_masses(seed):
    draw = normal(seed)
    n, out, spread = 2 + seed % 7, 1 + seed % 4, (0.0, 0.1, 3.0, 30.0)[seed % 4]
    log_mass, content, targets = 50.0 * draw(1) + spread * draw(n), draw(n, out), draw(n, out) * 10.0 ** (seed % 5 - 2)
    found = minimise(log_mass, content, targets)
    points = torch.linspace(float(log_mass.min()) - 40, float(log_mass.max()) + 40, 2000, dtype=torch.float64)
    share = torch.sigmoid(points[:, None] - log_mass)[..., None]
    missing = targets - torch.sigmoid(log_mass - points[:, None])[..., None] * content
    mean = (share * missing).sum(1, keepdim=True) / share.square().sum(1, keepdim=True)
    assert float((missing - share * mean).flatten(1).norm(dim=1).min()) >= found.lower
    assert found.lower <= found.upper
    scale = float(targets.norm() + content.norm())
    assert found.upper - found.lower <= TOLERANCES["oracle gap", torch.float64][0] * found.upper + 1e-12 * scale


def test_the_floor_survives_a_file_and_the_second_path_refuses_a_raised_one():
    weights, sequences = problem(8, 6, 11)
    floor = memorisable(weights, sequences, normal(11)(6, weights.output_size)).floor
    assert (floor.side, floor.evidence) == (Side.LOWER, Evidence.PROVED)
    assert Certificate.from_dict(json.loads(json.dumps(floor.to_dict()))).recheck()
    assert not dataclasses.replace(floor, value=floor.value * (1 + 1e-6)).recheck()
    group = floor.witness["groups"][0]
    holed = {**floor.witness, "groups": [{**group, "boxes": torch.cat([group["boxes"][:3], group["boxes"][4:]])}]}
    assert not dataclasses.replace(floor, witness=holed).recheck()


def test_a_measured_error_is_refused_when_lowered():
    weights, sequences = problem(5, 4, 3)
    upper = memorisable(weights, sequences, normal(3)(4, weights.output_size)).upper
    assert upper.recheck()
    assert not dataclasses.replace(upper, value=upper.value * 0.999).recheck()
