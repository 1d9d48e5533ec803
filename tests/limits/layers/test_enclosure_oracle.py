"""Branches on balls against the same branches on their members."""

import pytest
import torch

from helpers.lipschitz_cases import ACTIVATIONS, contracting, normal
from promptreach.balls import Ball
from promptreach.limits.layers.enclosure import attention, feed_forward


@pytest.mark.parametrize("seed", range(6))
def test_enclosed_branches_hold_what_more_digits_give(seed):
    """Float32 values widened by their own rounding: the float64 result lies within the stated error of every entry."""
    layer = contracting(seed, causal=bool(seed % 2), gated=seed % 3 == 0, scale=1.0, activation=ACTIVATIONS[seed % 4])
    inputs = normal(torch.Generator().manual_seed(seed), 4, 4)
    off = 1e-6 * normal(torch.Generator().manual_seed(seed + 1), 4, 4)
    for branch, weights in ((attention, layer.attention), (feed_forward, layer.feed_forward)):
        enclosed = branch(weights, Ball(inputs + off, off.abs()))
        truth = branch(weights, Ball.exact(inputs))
        assert bool(((enclosed.centre - truth.centre).abs() <= enclosed.radius).all())
        assert float(truth.radius.max()) <= 1e-11
        assert float(enclosed.radius.max()) <= 1e-2
