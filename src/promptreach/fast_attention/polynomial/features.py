"""Monomial features: the polynomial kernel p(q.k) as a product of short vectors, a block at a time.

    sum_{t <= degree} (q.k)^t / t!  =  sum_m q^m k^m / m!     over multi-indices m of size at most `degree`,

so with one feature a *symmetric* monomial there are C(variables + degree, degree) of them. Keys are summed into moments
sum_j k_j^m (columns of key j) once; every query then reads them. Positions run last, so that a feature is one
contiguous multiplication of two rows, and a block of features never leaves the cache. The backward pass builds the
features again instead of keeping them.

Rows are ordered by degree, and within a degree by their first variable: the monomials of degree t that start at
variable a are x_a times those of degree t - 1 that start at a or later, which is a contiguous slice of rows.
"""

import itertools
import math
from functools import lru_cache, reduce
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from promptreach.rounding import unit

CACHE_BYTES = 2**22
"""Bytes of a block of features: it should stay in cache, and each block costs some calls whatever its size."""

LEAST_POSITIONS, MOST_POSITIONS = 128, 4096
"""Positions a block, at least and at most."""

MOST_TERMS = 512
"""Positions, and features, that one product sums at most: its rounding grows with them."""


class Multiplication(NamedTuple):
    """One step in building monomials: the rows `made` are variable `variable` times the rows `source`."""

    variable: int
    made: slice
    source: slice


class Monomials(NamedTuple):
    """The monomials of up to `degree` in `variables` variables.

    Attributes:
        offsets: row at which each degree starts; one more entry for the end.
        steps: how to build the rows, in order; row 0 is the constant 1.
        factorials: (rank,) m! of each multi-index, float64.
    """

    variables: int
    degree: int
    offsets: tuple[int, ...]
    steps: tuple[Multiplication, ...]
    factorials: Float[Tensor, " rank"]

    @property
    def rank(self) -> int:
        return self.offsets[-1]


def rank(variables: int, degree: int) -> int:
    """The number of monomials of up to `degree`: C(variables + degree, degree)."""
    return math.comb(variables + degree, degree)


@lru_cache(maxsize=32)
def monomials(variables: int, degree: int) -> Monomials:
    """The table of monomials; built once for each pair of numbers."""
    offsets, steps, factorials = [0, 1], [], [torch.ones(1, dtype=torch.float64)]
    # How often the first variable of each monomial of the last degree occurs in it, and where each variable starts.
    leading, starts = torch.zeros(1, dtype=torch.float64), [0] * variables
    for _ in range(degree):
        base, end, last = offsets[-2], offsets[-1], factorials[-1]
        level, counts, made = [last[:0]], [last[:0]], [end]
        for variable, (source, following) in enumerate(itertools.pairwise([*starts, end - base])):
            # Only monomials that already start with this variable contain it: those before the next variable's.
            count = torch.ones(end - base - source, dtype=torch.float64)
            count[: following - source] += leading[source:following]
            counts.append(count)
            level.append(last[source:] * count)
            made.append(made[-1] + len(count))
            steps.append(Multiplication(variable, slice(made[-2], made[-1]), slice(base + source, end)))
        factorials.append(torch.cat(level))
        leading, starts = torch.cat(counts), [start - end for start in made[:-1]]
        offsets.append(made[-1])
    return Monomials(variables, degree, tuple(offsets), tuple(steps), torch.cat(factorials))


def features(table: Monomials, x: Float[Tensor, "variables positions"], out: Tensor | None = None) -> Tensor:
    """All monomials of each column of `x`: (rank, positions). Without `out` autograd can follow."""
    if out is None:
        rows = [torch.ones_like(x[:1]) if table.variables else x.new_ones(1, x.shape[1])]
        for degree in range(table.degree):
            base = table.offsets[degree]
            level = [
                x[step.variable] * rows[degree][step.source.start - base :]
                for step in table.steps[degree * table.variables : (degree + 1) * table.variables]
            ]
            rows.append(torch.cat(level) if level else x.new_ones(0, x.shape[1]))
        return torch.cat(rows)
    out[0] = 1.0
    for step in table.steps:
        torch.mul(x[step.variable], out[step.source], out=out[step.made])
    return out


def block_size(table: Monomials, dtype: torch.dtype) -> int:
    """Positions a block: a power of two, so many that the features stay in cache."""
    fitting = max(1, CACHE_BYTES // (table.rank * dtype.itemsize))
    return max(LEAST_POSITIONS, min(MOST_POSITIONS, 1 << (fitting.bit_length() - 1)))


def moments(
    table: Monomials, key: Float[Tensor, "variables n"], columns: Float[Tensor, "columns n"]
) -> Float[Tensor, "columns rank"]:
    """sum_j columns_j k_j^m for every monomial m, in float64: sums over a few positions in the working dtype."""
    size = block_size(table, key.dtype)
    total = torch.zeros(len(columns), table.rank, dtype=torch.float64, device=key.device)
    if torch.is_grad_enabled() and (key.requires_grad or columns.requires_grad):
        for keys, values in zip(torch.split(key, size, dim=1), torch.split(columns, size, dim=1), strict=True):
            total = total + checkpoint(lambda x, y: _summed(y, features(table, x)), keys, values, use_reentrant=False)
        return total
    buffer = key.new_empty(table.rank, min(size, key.shape[1]))
    for keys, values in zip(torch.split(key, size, dim=1), torch.split(columns, size, dim=1), strict=True):
        total += _summed(values, features(table, keys, buffer[:, : keys.shape[1]]))
    return total


def evaluate(
    table: Monomials, query: Float[Tensor, "variables rows"], state: Float[Tensor, "columns rank"]
) -> Float[Tensor, "columns rows"]:
    """sum_m state_m q^m / m! for every query: the kernel sums that the moments stand for, in the working dtype."""
    size = block_size(table, query.dtype)
    coefficients = (state / table.factorials.to(state.device)).to(query.dtype)
    if torch.is_grad_enabled() and (query.requires_grad or state.requires_grad):
        parts = [
            checkpoint(lambda x, y: _product(y, features(table, x)), block, coefficients, use_reentrant=False)
            for block in torch.split(query, size, dim=1)
        ]
        return torch.cat(parts, dim=1)
    buffer = query.new_empty(table.rank, min(size, query.shape[1]))
    result = query.new_empty(len(state), query.shape[1])
    for start in range(0, query.shape[1], size):
        block = query[:, start : start + size]
        built = features(table, block, buffer[:, : block.shape[1]])
        result[:, start : start + size] = _product(coefficients, built)
    return result


def roundings(table: Monomials, keys: int, dtype: torch.dtype) -> int:
    """The number of roundings of `dtype` between keys and queries and what `evaluate` makes of their `moments`.

    Building a feature on either side, the product with the columns, the sum over a block, the coefficient, the sum over
    features; further sums over positions happen in float64 and count as the roundings of `dtype` they amount to.
    """
    parts = 2 * (keys // LEAST_POSITIONS + 2) * unit(torch.float64) / unit(dtype)
    return 2 * table.degree + 2 * MOST_TERMS + table.rank // MOST_TERMS + math.ceil(parts) + 8


def _summed(values: Tensor, built: Tensor) -> Tensor:
    """values @ built^T in float64, from products in the working dtype over at most `MOST_TERMS` positions."""
    whole = built.shape[1] // MOST_TERMS * MOST_TERMS
    total: Tensor = (values[:, whole:] @ built[:, whole:].mT).double()
    if whole:
        first = values[:, :whole].reshape(len(values), -1, MOST_TERMS).transpose(0, 1)
        second = built[:, :whole].reshape(len(built), -1, MOST_TERMS).permute(1, 2, 0)
        total = total + torch.bmm(first, second).sum(dim=0, dtype=torch.float64)
    return total


def _product(weights: Tensor, built: Tensor) -> Tensor:
    """weights @ built, summed over at most `MOST_TERMS` features at a time."""
    parts = zip(torch.split(weights, MOST_TERMS, dim=1), torch.split(built, MOST_TERMS), strict=True)
    return reduce(torch.add, (first @ second for first, second in parts))
