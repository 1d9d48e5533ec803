"""The room for samples: Bernstein's inequality holds with it, barely, and the variances put into it are right."""

import math
from fractions import Fraction

import pytest
import torch

from helpers.compiler_cases import small
from promptreach.compiler.gallery import gallery_function
from promptreach.compiler.programmable.error_budget import (
    CHANCE,
    FRESH_POINTS,
    STEEPEST_BEND,
    logit_error,
    sample_clause,
    sample_room,
)
from promptreach.compiler.verify import measure


@pytest.mark.parametrize(
    ("variance", "largest"), [(Fraction(4, 5), 2), (Fraction(1, 5), 2), (Fraction(1), 1), (Fraction(0), 1)][:4]
)
def test_the_chance_is_used_up_and_not_exceeded(variance, largest):
    x = float(sample_room(variance, Fraction(largest)))
    chance = math.exp(-FRESH_POINTS * x * x / (2 * (variance + largest * x / 3)))
    assert 0.999 * CHANCE <= chance <= CHANCE


def test_larger_samples_need_less():
    x = float(sample_room(Fraction(4, 5), Fraction(2)))
    chances = [math.exp(-n * x * x / (2 * (0.8 + 2 * x / 3))) for n in (20_000, 30_000, 100_000)]
    assert chances == sorted(chances, reverse=True)


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_sums_of_uniform_squares_have_the_variance_that_is_put_in(size):
    squares = torch.rand(400_000, size, generator=torch.Generator().manual_seed(size), dtype=torch.float64).square()
    relative = squares.sum(dim=1) / (size / 3)
    assert float(relative.var()) == pytest.approx(4 / (5 * size), rel=0.02)
    assert float(relative.max()) <= 3


@pytest.mark.parametrize("seed", range(20))
def test_functions_as_steep_as_declared_everywhere_stay_below_on_samples(seed):
    """Here the mean equals the bound but for the room: without it, half of these samples would lie above."""
    backbone, target = small(1, 1, 0.003), gallery_function("reverse", 1, 1, 1.0)
    prompt = backbone.prompt_for(target)
    found = measure(backbone, prompt, target, FRESH_POINTS, seed)
    assert found.holds
    assert prompt.certificate.value <= 1.03 * found.error.value


def test_the_claim_says_so():
    backbone = small(1, 1, 0.1)
    prompt = backbone.prompt_for(gallery_function("reverse", 1, 1, 1.0))
    assert "20,000 or more independent uniform points, but for a chance of 1e-09" in prompt.certificate.claim
    assert "20,000" not in backbone.sup_certificate(prompt).claim
    assert sample_clause(1e-12).endswith("1e-12 a point.")


def smooth(dim, tokens, tol=0.05):
    target = gallery_function("smooth", dim, tokens, 1.0, 5)
    return small(dim, tokens, tol, "multilinear", curvature=target.curvature), target


def logit_slack(backbone):
    tilt = backbone.passes[[item.name for item in backbone.passes].index("tilt")]
    count = backbone.plan.derived["knots"]
    knots = [-float(bias) for bias in tilt.up_bias[:count]]
    changes = tilt.down[0, :count].tolist()
    heights = [sum(c * max(place - knot, 0) for c, knot in zip(changes, knots, strict=True)) for place in knots]
    return logit_error(knots, heights, backbone.plan.derived["reach"])


def test_the_logit_error_is_above_what_is_seen_and_close_to_it():
    backbone, _ = smooth(1, 1, 0.01)
    bound, reach = float(logit_slack(backbone)), backbone.plan.derived["reach"]
    t = torch.linspace(0, 1, 20_001, dtype=torch.float64)
    tilt = backbone.passes[2]
    states = torch.zeros(len(t), backbone.stream.size, dtype=torch.float64)
    states[:, backbone.stream.blocks["input"]] = t[:, None] / backbone.plan.cells
    tilted = backbone.stream.read(tilt(states), ["tilt"])[:, 0]
    seen = float((torch.sigmoid(tilted - reach) - t).abs().max())
    assert seen <= bound <= 2 * seen


def test_no_second_derivative_of_the_logistic_function_is_larger():
    z = torch.linspace(-8, 8, 100_001, dtype=torch.float64)
    s = torch.sigmoid(z)
    assert float((s * (1 - s) * (1 - 2 * s)).abs().max()) <= float(STEEPEST_BEND)
    assert Fraction(1, 108) <= STEEPEST_BEND**2  # (1 / (6 sqrt 3))^2
