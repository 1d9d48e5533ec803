"""The constants of the activations, against their slopes."""

import math

import pytest
import torch

from helpers.lipschitz_cases import ACTIVATIONS
from promptreach import blocks
from promptreach.limits.layers.feed_forward_bounds import LARGEST_SLOPE


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_no_activation_is_steeper_than_its_constant(activation):
    """On a grid fine enough that slopes, which change by at most 1.6 per unit, gain less than the constant's slack."""
    points = torch.linspace(-12, 12, 240_001, dtype=torch.float64, requires_grad=True)
    (slopes,) = torch.autograd.grad(blocks.activated(activation, points).sum(), points)
    largest = float(LARGEST_SLOPE[activation])
    assert largest - 2e-3 <= float(slopes.max()) <= largest
    assert float(slopes.min()) >= (0 if activation == "relu" else 1 - largest)
    assert bool((blocks.activated(activation, points).abs() <= points.abs()).all())


def test_the_tanh_form_of_gelu_is_not_steeper_anywhere():
    """Interval bounds on [0, 6], where every factor is monotone; beyond, the second term is below 1e-9 and falls."""
    constant, cubic = math.sqrt(2 / math.pi), 0.044715
    low = torch.arange(0, 6, 2e-5, dtype=torch.float64)
    high = low + 2e-5
    rise = torch.tanh(constant * (high + cubic * high**3))
    fall = 1 - torch.tanh(constant * (low + cubic * low**3)) ** 2
    slope = 0.5 * (1 + rise) + 0.5 * high * fall * constant * (1 + 3 * cubic * high**2)
    assert float(slope.max()) <= float(LARGEST_SLOPE["gelu_tanh"])
