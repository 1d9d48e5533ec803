"""Powers of two: exact where numbers stay in range, and norms that neither underflow nor overflow."""

import math

import pytest
import torch

from helpers.oracle_problems import normal
from promptreach.limits.oracle.scales import exponent, is_finite, lowered, root_mean_square, row_norms, times_power


@pytest.mark.parametrize("size", [1e-320, 1e-160, 1.0, 1e160, 1e300])
def test_a_tensor_comes_back_exactly(size):
    tensor = size * normal(0)(3, 4)
    power = exponent(tensor)
    near = times_power(tensor, -power)
    assert 0.5 <= float(near.abs().max()) < 1
    assert torch.equal(times_power(near, power), tensor)


def test_nothing_has_no_exponent():
    assert exponent(torch.zeros(3), torch.empty(0, 2)) is None
    assert exponent() is None
    assert root_mean_square(torch.zeros(3)) == 0


@pytest.mark.parametrize("size", [1e-300, 1e-170, 1.0, 1e170, 1e300])
def test_norms_at_any_size(size):
    tensor = normal(1)(5, 3)
    expected = float(tensor.square().mean().sqrt())
    assert root_mean_square(size * tensor) == pytest.approx(size * expected, rel=1e-14)
    torch.testing.assert_close(row_norms(size * tensor) / size, tensor.norm(dim=1), rtol=1e-14, atol=0)


def test_a_floor_is_scaled_down_to_nothing_and_never_up():
    assert lowered(0.75, 10) == 768
    assert lowered(0.75, -1100) == 0
    assert lowered(0.75, 3000) == math.nextafter(math.inf, 0)
    assert lowered(-1.0, 3) == 0


def test_numbers_that_are_none_are_seen():
    assert is_finite(torch.ones(2), torch.zeros(1))
    assert not is_finite(torch.ones(2), torch.tensor([math.inf]))
