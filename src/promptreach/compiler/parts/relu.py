"""Token-wise relu gadgets, each with what it computes exactly in floating point and where.

All of them are matrices (up, up_bias, down, ...) for `blocks.FeedForward`. "Exactly" means bit by bit: the numbers that
occur are integers below 2^53 (2^24 in float32), powers of two, or sums with at most one summand that is not zero.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

RAMP_UNITS = 4
"""Width of a ramp in units of the last place at 1. Nothing depends on it but how rarely an input falls inside."""


def narrowest_ramp(dtype: torch.dtype) -> float:
    """The width of the ramps: a power of two, so that every number a ramp makes outside of itself is exact."""
    return RAMP_UNITS * torch.finfo(dtype).eps / 2


def thresholds(cells: int, ramp: float, dtype: torch.dtype) -> Float[Tensor, " inner"]:
    """Where the ramps of a staircase with `cells` steps on [0, 1] begin: half a ramp below k / cells, k = 1..cells-1.

    Whole multiples of the unit roundoff, so that both ends of a ramp are numbers of `dtype`.
    """
    unit = torch.finfo(dtype).eps / 2
    edges = torch.arange(1, cells, dtype=torch.float64) / cells
    return (((edges - ramp / 2) / unit).round() * unit).to(dtype)


def ramp_units(
    starts: Float[Tensor, " inner"], ramp: float, axes: int
) -> tuple[Float[Tensor, "units axes"], Float[Tensor, " units"]]:
    """`up` and `up_bias` of h = relu((x_a - t_k) / ramp), for every axis a and threshold t_k, axis by axis.

    For floating-point x: h = 0 exactly where x <= t_k, and h >= 1 where x >= t_k + ramp, provided that `ramp` is a
    power of two. For then both products are exact, so the unit is fl(x - t_k) / ramp with one rounding, and rounding
    is monotone.
    """
    if math.frexp(ramp)[0] != 0.5:
        raise ValueError(f"ramp {ramp} is not a power of two")
    up = torch.eye(axes, dtype=starts.dtype).repeat_interleave(len(starts), dim=0) / ramp
    return up, (-starts / ramp).repeat(axes)


def step_units(
    inner: int, axes: int, dtype: torch.dtype
) -> tuple[Float[Tensor, " units"], Float[Tensor, " units"], Float[Tensor, "axes units"], Float[Tensor, " axes"]]:
    """`up` (diagonal), `up_bias`, `down`, `down_bias` of digit_a = sum_k (1 - relu(1 - h_ak)), the staircase itself.

    Exact where each h is 0 or at least 1: relu(1 - h) is then 1 or 0, and the digit a whole number.
    """
    ones = torch.ones(axes * inner, dtype=dtype)
    down = -torch.eye(axes, dtype=dtype).repeat_interleave(inner, dim=1)
    return -ones, ones, down, torch.full((axes,), float(inner), dtype=dtype)


def square_units(
    count: int, middle: int, dtype: torch.dtype
) -> tuple[Float[Tensor, " units"], Float[Tensor, " units"], float]:
    """`up_bias`, `down` and the value at 0 of (v - middle)^2 = middle^2 + sum_k down_k relu(v - k), k = 0..count-2.

    Exact at whole v in 0..count-1: any function on whole numbers is piecewise linear, with its second differences (2
    here) as the changes of slope.
    """
    knots = torch.arange(count - 1, dtype=dtype)
    down = torch.full((count - 1,), 2.0, dtype=dtype)
    down[:1] = 1.0 - 2 * middle
    return -knots, down, float(middle**2)


def gated_units(
    reads: Float[Tensor, "entries read"], tokens: int, height: float | int
) -> tuple[Float[Tensor, "entries with_flags"], Float[Tensor, " entries"]]:
    """`up` and `up_bias` of relu(reads x - height (1 - flag_i)), i being the token of an entry, entries token by token.

    What lies between 0 and `height` passes under the own flag and becomes 0 under every other.
    """
    gates = height * torch.eye(tokens, dtype=reads.dtype).repeat_interleave(len(reads) // tokens, dim=0)
    return torch.cat([reads, gates], dim=1), torch.full((len(reads),), -float(height), dtype=reads.dtype)


def mismatch_units(
    count: int, dtype: torch.dtype
) -> tuple[Float[Tensor, " units"], Float[Tensor, " units"], Float[Tensor, "count units"]]:
    """`up` (one column), `up_bias` and `down` of off_n = relu(8 (v - n) - 2) + relu(8 (n - v) - 2), n = 0..count-1.

    For v within 1/4 of the whole number c: off_c = 0 exactly, and off_n >= 4 for every n != c. So a selector that
    subtracts `off` from numbers below 4 keeps the one it wants bit by bit, whatever the rounding of v.
    """
    numbers = torch.arange(count, dtype=dtype)
    up = torch.cat([torch.full((count,), 8.0, dtype=dtype), torch.full((count,), -8.0, dtype=dtype)])
    bias = torch.cat([-8 * numbers - 2, 8 * numbers - 2])
    down = torch.cat([torch.eye(count, dtype=dtype)] * 2, dim=1)
    return up, bias, down


def piecewise_linear_units(
    knots: Float[Tensor, " knots"], heights: Float[Tensor, " knots"]
) -> tuple[Float[Tensor, " units"], Float[Tensor, " units"], float]:
    """`up_bias`, `down` and the value at the left of sum_k down_k relu(t - knot_k): the interpolant of the heights.

    Constant outside the knots.
    """
    slopes = heights.diff() / knots.diff()
    zero = slopes.new_zeros(1)
    return -knots, torch.cat([zero, slopes, zero]).diff(), float(heights[0])
