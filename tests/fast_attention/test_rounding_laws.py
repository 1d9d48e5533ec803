"""Roundings are counted upwards."""

import math

import torch

from promptreach.fast_attention.rounding import gamma, unit


def test_roundings_are_counted_upwards():
    assert unit(torch.float32) == 2.0**-24
    assert unit(torch.float64) == 2.0**-53
    for count in (1, 100, 10_000):
        assert (1 + unit(torch.float32)) ** count - 1 <= gamma(count, torch.float32)
    assert gamma(2**24, torch.float32) == math.inf
