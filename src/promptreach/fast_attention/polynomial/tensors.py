"""Bounds on a form q -> T(q, .., q) over unit vectors, for a symmetric tensor T known by its monomial entries.

With s + r = t and normalised monomials Q_s(q)_a = sqrt(s!/a!) q^a, which have |Q_s(q)| = |q|^s,

    T(q, .., q) = Q_s(q)^T H Q_r(q),     H_ab = sqrt(s!/a! r!/b!) T_(a + b),

so |T(q, .., q)| <= |q|^t |H| in spectral norm, for every way to split t. Halves give the smallest matrix norms; the
split 0 + t is the Frobenius norm. The spectral norm is bounded by squaring: |A|^2 = |A^2| for symmetric A, and the last
power by its Frobenius norm, which is far above the truth only before the root is taken.

Reference: theorem key ``symmetric-tensor-norm``.
"""

import itertools
import math
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from promptreach.fast_attention.polynomial.features import Monomials
from promptreach.rounding import gamma

MOST_ROWS = 128
FORM_BYTES = 2**25
"""The largest matrices H that are built; beyond, splits are less even, down to the Frobenius norm."""

SQUARINGS = 5
"""The Frobenius norm of the 32nd power is at most sqrt(size) times its spectral norm: 6 % at size 36 after the root."""


def form_norms(table: Monomials, state: Float[Tensor, "columns rank"], degree: int) -> Float[Tensor, " columns"]:
    """At least max over unit q of |sum_j c_j (q.k_j)^degree| for each column c whose moments are `state`.

    The moments count as they stand. What rounding them to `state` moved belongs to the account of all sums over keys
    (`remainder.Account.relative`), which covers the degrees that queries leave out as well as those they read.

    Args:
        table: of the moments, up to at least `degree`.
        state: float64.
        degree: t, at least 1.
    """
    sizes = [table.offsets[order + 1] - table.offsets[order] for order in range(degree + 1)]
    low = degree // 2
    while low and (sizes[low] > MOST_ROWS or 8 * sizes[low] * sizes[degree - low] * len(state) > FORM_BYTES):
        low -= 1
    part = state.detach()[:, table.offsets[degree] : table.offsets[degree + 1]]
    left, right = (_root_multinomials(table, order).to(state.device) for order in (low, degree - low))
    index = pair_index(table.variables, low, degree - low).to(state.device)
    return spectral_above(part[:, index] * left[:, None] * right) * (1 + gamma(16))


def spectral_above(matrix: Float[Tensor, "batch rows columns"]) -> Float[Tensor, " batch"]:
    """At least the spectral norm of each float64 matrix.

    A product A B of computed matrices errs by at most gamma |A|_F |B|_F in norm, which is added at every squaring.
    """
    scale = matrix.flatten(1).norm(dim=1).clamp_min(1e-200)
    power = matrix / scale[:, None, None]
    power = power @ power.mT if matrix.shape[1] <= matrix.shape[2] else power.mT @ power
    lost = gamma(max(matrix.shape[1:]) + 8)
    # Every power is scaled to Frobenius norm 1 before the next, so the product's error is at most `lost`.
    sizes = []
    for _ in range(SQUARINGS):
        size = power.flatten(1).norm(dim=1).clamp_min(1e-200)
        sizes.append(size)
        power = power / size[:, None, None]
        power = power @ power
    bound = power.flatten(1).norm(dim=1) * (1 + gamma(power[0].numel() + 16)) + 2 * lost
    for size in reversed(sizes):
        bound = size * bound.sqrt() * (1 + gamma(16)) + 2 * lost
    result: Tensor = scale * bound.sqrt() * (1 + gamma(matrix[0].numel() + 32))
    return result


@lru_cache(maxsize=64)
def pair_index(variables: int, low: int, high: int) -> Int[Tensor, "low_rank high_rank"]:
    """The place, among the monomials of degree low + high, of the product of each pair of monomials of the two degrees.

    Monomials of one degree are the sorted sequences of their variables in lexicographic order, and the place of a
    sequence counts those with a smaller variable at the first difference.
    """
    first, second = _sequences(variables, low), _sequences(variables, high)
    pairs = torch.cat(
        [
            first[:, None].expand(-1, len(second), -1),
            second[None].expand(len(first), -1, -1),
        ],
        dim=2,
    ).sort(dim=2)[0]
    place = torch.zeros(pairs.shape[:2], dtype=torch.long)
    before = torch.zeros(pairs.shape[:2], dtype=torch.long)
    for position in range(low + high):
        rest = low + high - position
        # How many sorted sequences of `rest` variables start at each variable or later.
        later = torch.tensor([math.comb(variables - start + rest - 1, rest) for start in range(variables)])
        place += later[before] - later[pairs[:, :, position]]
        before = pairs[:, :, position]
    return place


def _sequences(variables: int, degree: int) -> Int[Tensor, "rank degree"]:
    """The sorted sequences of `degree` variables, in the order of the monomials."""
    rows = itertools.combinations_with_replacement(range(variables), degree)
    count = math.comb(max(0, variables + degree - 1), degree)
    flat = np.fromiter(itertools.chain.from_iterable(rows), dtype=np.int64, count=count * degree)
    return torch.from_numpy(flat.reshape(count, degree))


def _root_multinomials(table: Monomials, degree: int) -> Float[Tensor, " rank"]:
    """sqrt(degree! / a!) for each monomial a of the degree."""
    part = table.factorials[table.offsets[degree] : table.offsets[degree + 1]]
    return (float(math.factorial(degree)) / part).sqrt()
