"""The two units of error."""

import pytest
import torch

from promptreach.fast_attention.measure import deviation_error, range_error


def test_error_units():
    exact = torch.tensor([[0.0, 5.0], [1.0, 5.0]])
    output = exact + torch.tensor([[0.0, 0.0], [0.5, 0.0]])
    assert range_error(output, exact, torch.tensor([2.0, 0.0])) == 0.25
    assert range_error(output, exact, torch.tensor([0.0, 0.0])) == 0.0
    assert deviation_error(output, exact) == pytest.approx(0.5 / 0.5**0.5)
    assert deviation_error(exact, exact) == 0.0
