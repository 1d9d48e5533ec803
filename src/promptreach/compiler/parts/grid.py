"""The grid on [0, 1] that the constructions share: ramps at its inner edges, cells between them, their points."""

from fractions import Fraction

import torch
from jaxtyping import Float
from torch import Tensor

from promptreach.compiler.target import Points, TargetFunction
from promptreach.errors import Fault


def cell_centres(cells: int) -> Float[Tensor, " cells"]:
    """The centre of each cell of one axis, in float64."""
    return (torch.arange(cells, dtype=torch.float64) + 0.5) / cells


def grid_points(axis: Float[Tensor, " cells"], tokens: int, dim: int) -> Points:
    """All inputs with every entry on the axis; the last entry of the last token varies fastest."""
    return torch.cartesian_prod(*[axis] * (tokens * dim)).reshape(-1, tokens, dim)


def grid_refutations(target: TargetFunction, points: Points, values: Points, cells: int) -> list[Fault]:
    """What neighbours along some axis of a grid of lookups refute, if anything."""
    size = target.tokens * target.dim
    shape = (*[cells] * size, target.tokens, target.dim)
    grid, table = points.reshape(shape), values.reshape(shape)
    for axis in range(size if cells > 1 else 0):
        left, left_values, right, right_values = (
            item.narrow(axis, start, cells - 1).reshape(-1, target.tokens, target.dim)
            for start in (0, 1)
            for item in (grid, table)
        )
        faults = target.slope_faults(left, left_values, right, right_values)
        if faults:
            return faults
    return []


def ramp_edges(starts: Float[Tensor, " inner"], ramp: float) -> Float[Tensor, " edges"]:
    """0, both ends of every ramp, 1: rising, in float64."""
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    return torch.cat([ends, starts.double(), starts.double() + ramp]).sort().values


def cell_radius(
    starts: Float[Tensor, " inner"], ramp: float, centres: Float[Tensor, " cells"], unit: Fraction
) -> Fraction:
    """How far a real x outside the ramps may be from the centre of its cell, its rounding by unit / 2 included."""
    edges = [Fraction(start) for start in starts.tolist()]
    lows = [Fraction(0), *[edge + Fraction(ramp) for edge in edges]]
    highs = [*edges, Fraction(1)]
    middles = [Fraction(centre) for centre in centres.tolist()]
    return max(max(high - mid, mid - low) for low, high, mid in zip(lows, highs, middles, strict=True)) + unit / 2
