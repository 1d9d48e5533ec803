"""The relu gadgets against plain Python, at the points where they are exact and at the ends of their margins."""

import math

import pytest
import torch

from promptreach.compiler.parts import relu


def unit_sum(up, bias, down, value):
    return sum(d * max(u * value + b, 0.0) for u, b, d in zip(up, bias, down, strict=True))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(("cells", "ramp"), [(1, 2.0**-10), (2, 2.0**-10), (7, 2.0**-20), (64, 2.0**-22)])
def test_the_staircase_counts_edges_exactly_up_to_the_ends_of_its_ramps(cells, ramp, dtype):
    starts = relu.thresholds(cells, ramp, dtype)
    up, up_bias = relu.ramp_units(starts, ramp, axes=1)
    diagonal, step_bias, down, down_bias = relu.step_units(cells - 1, 1, dtype)
    inputs = torch.cat([starts, starts + ramp, torch.tensor([0.0, 1.0], dtype=dtype), torch.rand(50, dtype=dtype)])
    inside = ((inputs[:, None] > starts) & (inputs[:, None] < starts + ramp)).any(dim=1)
    inputs = inputs[~inside]
    ramps = (inputs[:, None] @ up.T + up_bias).relu()
    digits = (ramps * diagonal + step_bias).relu() @ down.T + down_bias
    expected = [sum(x >= start + ramp for start in starts.double().tolist()) for x in inputs.double().tolist()]
    assert digits[:, 0].tolist() == expected


def test_ramps_lie_around_the_inner_edges_and_end_at_numbers_of_the_dtype():
    for dtype in (torch.float64, torch.float32):
        starts = relu.thresholds(10, 2.0**-20, dtype)
        ends = starts.double() + 2.0**-20
        assert torch.equal(ends, ends.to(dtype).double())
        middle = (starts.double() + ends) / 2
        assert float((middle - torch.arange(1, 10).double() / 10).abs().max()) <= torch.finfo(dtype).eps


def test_a_ramp_that_is_no_power_of_two_is_refused():
    with pytest.raises(ValueError, match="power of two"):
        relu.ramp_units(relu.thresholds(3, 0.01, torch.float64), 0.01, 1)


@pytest.mark.parametrize(("count", "middle"), [(1, 0), (2, 1), (3, 1), (50, 25), (51, 7)])
def test_squares_are_exact_at_whole_numbers(count, middle):
    bias, down, left = relu.square_units(count, middle, torch.float64)
    for value in range(count):
        assert left + unit_sum([1.0] * len(bias), bias.tolist(), down.tolist(), value) == (value - middle) ** 2


def test_mismatch_is_zero_within_a_quarter_and_four_elsewhere():
    up, bias, down = relu.mismatch_units(6, torch.float64)
    for digit in range(6):
        for value in (digit - 0.25, digit - 0.1, digit, digit + 0.25):
            off = [unit_sum(up.tolist(), bias.tolist(), row, value) for row in down.tolist()]
            assert off[digit] == 0
            assert min([*off[:digit], *off[digit + 1 :]]) >= 4


def test_piecewise_linear_units_interpolate_and_stay_constant_outside():
    knots = torch.tensor([0.1, 0.3, 0.35, 0.9], dtype=torch.float64)
    heights = torch.tensor([-1.0, 2.0, 0.5, 0.75], dtype=torch.float64)
    bias, down, left = relu.piecewise_linear_units(knots, heights)

    def at(value):
        return left + unit_sum([1.0] * 4, bias.tolist(), down.tolist(), value)

    for knot, height in zip(knots.tolist(), heights.tolist(), strict=True):
        assert math.isclose(at(knot), height, abs_tol=1e-13)
    assert math.isclose(at(0.2), 0.5, abs_tol=1e-13)
    assert at(-3.0) == -1.0
    assert math.isclose(at(5.0), 0.75, abs_tol=1e-12)
