"""Sizes: powers of two that bring numbers near 1, where products neither underflow nor overflow, and back.

Rounding accounts are relative: they say nothing of a product below 1e-308, which is lost, or above 1e308. The oracle's
problem is homogeneous, so its numbers are multiplied by a power of two first, which rounds nothing, and the floor by
the inverse at the end. What still vanishes is below 1e-300 of the largest number.
"""

import math
import sys

import torch
from torch import Tensor

_STEP = 1000  # the largest exponent that is taken at once: 2^1000 is a float64


def exponent(*tensors: Tensor) -> int | None:
    """The least k with every entry below 2^k in size; None where all are 0 or there are none."""
    sizes = [float(tensor.abs().max()) for tensor in tensors if tensor.numel()]
    largest = max(sizes, default=0.0)
    return math.frexp(largest)[1] if largest else None


def times_power(tensor: Tensor, power: int) -> Tensor:
    """2^power times the tensor; exact unless an entry leaves the range of float64."""
    while power:
        step = max(-_STEP, min(_STEP, power))
        tensor, power = tensor * 2.0**step, power - step
    return tensor


def lowered(bound: float, power: int) -> float:
    """A float64 at most 2^power times a bound that is not negative: equal to it, or 0 near the end of the range."""
    if bound <= 0.0 or math.frexp(bound)[1] + power <= sys.float_info.min_exp:
        return 0.0
    return math.ldexp(bound, power) if math.frexp(bound)[1] + power <= sys.float_info.max_exp else sys.float_info.max


def root_mean_square(tensor: Tensor) -> float:
    """The root of the mean square of all entries, whatever their size; 0 where there are none."""
    power = exponent(tensor)
    if power is None:
        return 0.0
    scaled = times_power(tensor.double(), -power)
    return float(times_power(scaled.square().mean().sqrt(), power))


def row_norms(rows: Tensor) -> Tensor:
    """The Euclidean norm of each row, whatever its size, as computed."""
    largest = rows.abs().amax(dim=-1, keepdim=True).clamp(min=sys.float_info.min)
    norms: Tensor = (rows / largest).norm(dim=-1) * largest[..., 0]
    return norms


def is_finite(*tensors: Tensor) -> bool:
    """Whether every entry is a number."""
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors)
