"""Distance of a polynomial kernel's output from exact attention: a deterministic bound, rounding included.

Let e^s = p_g(s) + R(s) with the Taylor polynomial p_g. For query i with computed output o and exact mass D_i,

    |out_i - o| D_i  =  |sum_j w_j R(s_ij) (v_j - o)|      (the polynomial parts cancel, whatever they are),

and R is taken apart. Its leading terms, degrees t = g + 1 .. G, act through *known moments* of the keys:
|sum_j w_j s_ij^t (v_j - o)| <= |q_i|^t |T_t|, where T_t = sum_j w_j (v_j - o) k_j (x) .. (x) k_j, in the norm of
`tensors`. That is about as small as the truth: where values have nothing to do with keys, so is the norm. What is left,
|R_G(s)| <= |s|^(G+1) / (G+1)! theta(|s|), goes through Cauchy and Schwarz,

    |sum_j w_j R_G (v_j - o)|^2 <= sum_j w_j (v_j - o)^2  *  |q_i|^2G / (G+1)!^2  *  q_i^T C q_i,
    C = sum_j w_j |k_j|^2G theta(max_i |q_i| |k_j|)^2 k_j k_j^T,

so one small matrix C sums over the keys each with its own norm, and no query or key has to stand for the worst one.
Rounding enters as Gamma sum_j w_j e^(|q_i||k_j|) (|v_j| + |o|), again by Cauchy and Schwarz. The mass is bounded from
below by Jensen's inequality, D_i >= W exp(q_i.m) with the weighted mean key m (nearly 0, since keys are centred), or by
the computed mass minus its own error, whichever is larger.

Reference: theorem key ``polynomial-remainder``. Approximating e^s on the interval of all scores, as papers A and B's
companions do (Alman, Song 2023), bounds every pair by the worst one.
"""

import math
from dataclasses import dataclass, fields
from functools import reduce
from operator import add
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from promptreach.fast_attention.polynomial.features import Monomials
from promptreach.fast_attention.polynomial.preprocess import Prepared
from promptreach.fast_attention.polynomial.tensors import form_norms
from promptreach.rounding import gamma

SERIES = 8
"""Terms of theta's series that are summed before it is closed."""


@dataclass(frozen=True, eq=False)
class KeySums:
    """Contribution of a set of keys to the bound; sums over disjoint sets add. All float64.

    Attributes:
        mass: W, the sum of the weights.
        first, length: sum w k and sum w |k|.
        value, square: sum w v' and sum w v'^2 for each coordinate.
        tail: C above.
        spread: sum w exp(2 reach |k|), for the rounding.
        count: how many keys.
    """

    mass: Float[Tensor, ""]
    first: Float[Tensor, " variables"]
    length: Float[Tensor, ""]
    value: Float[Tensor, " value_dim"]
    square: Float[Tensor, " value_dim"]
    tail: Float[Tensor, "variables variables"]
    spread: Float[Tensor, ""]
    count: int

    def __add__(self, other: "KeySums") -> "KeySums":
        return KeySums(*(getattr(self, part.name) + getattr(other, part.name) for part in fields(self)))


@dataclass(frozen=True, eq=False)
class Account:
    """Everything but the query that a row's bound needs.

    Attributes:
        sums: over the keys that the polynomial stands for.
        degree: G, up to which moments are known.
        leading: (G - g, value_dim + 1), the norms of T_t over t! for v' and for the mass, from degree g + 1 on.
        relative: Gamma, roundings between keys and output.
        underflow: what underflow can add to any sum.
    """

    sums: KeySums
    degree: int
    leading: Float[Tensor, "degrees columns"]
    relative: float
    underflow: float


def theta(x: Float[Tensor, " n"], degree: int) -> Float[Tensor, " n"]:
    """At least (degree + 1)! (e^y - p_degree(y)) / y^(degree + 1) for |y| <= x; float64, x >= 0.

    theta_t = 1 + x / (t + 2) theta_{t+1}, closed by convexity: theta_t <= (t + 1 + e^x) / (t + 2).
    """
    last = degree + SERIES
    value = (last + 1 + torch.exp(x)) / (last + 2)
    for order in range(last - 1, degree - 1, -1):
        value = 1 + x / (order + 2) * value
    return value * (1 + gamma(4 * SERIES + 8))


def key_sums(
    key: Float[Tensor, "variables n"],
    size: Float[Tensor, " n"],
    weight: Float[Tensor, " n"],
    value: Float[Tensor, "value_dim n"],
    degree: int,
    reach: float,
    block: int,
) -> KeySums:
    """The sums for moments up to `degree` and queries of norm at most `reach`; `size` are the keys' norms."""
    split = (torch.split(item.detach(), block, dim=-1) for item in (key, size, weight, value))
    wide = ([item.double() for item in part] for part in zip(*split, strict=True))
    return reduce(add, (_key_sums(keys, sizes, mass, values, degree, reach) for keys, sizes, mass, values in wide))


def _key_sums(key: Tensor, size: Tensor, weight: Tensor, value: Tensor, degree: int, reach: float) -> KeySums:
    heavy = weight * (size**degree * theta(reach * size, degree)) ** 2
    return KeySums(
        mass=weight.sum(),
        first=key @ weight,
        length=size @ weight,
        value=value @ weight,
        square=value.square() @ weight,
        tail=(key * heavy) @ key.mT,
        spread=(weight * torch.exp(2 * reach * size)).sum(),
        count=key.shape[1],
    )


def tail_factor(
    query: Float[Tensor, "variables rows"], size: Float[Tensor, " rows"], sums: KeySums, degree: int
) -> Float[Tensor, " rows"]:
    """At least the root of sum_j w_j R_G(s_ij)^2 for every query, of which `size` are the norms."""
    trace = sums.tail.trace()
    # The form is evaluated in the queries' dtype, for C scaled to trace 1; what that rounds is a share of the trace.
    scaled = (sums.tail / trace.clamp(1e-300, 1e300)).to(query.dtype)
    form = (query.detach() * (scaled @ query.detach())).sum(dim=0).double()
    lost = gamma(sums.count + 64) + gamma(2 * len(query) + 8, query.dtype)
    lowest = 4 * len(query) ** 2 * torch.finfo(query.dtype).tiny
    root = ((form + 2 * lost * size.square()).clamp_min(0.0) + lowest).sqrt() * trace.sqrt()
    return size**degree * root / float(math.factorial(degree + 1)) * (1 + gamma(sums.count + degree + 16))


def moment_norms(table: Monomials, state: Float[Tensor, "columns rank"]) -> Float[Tensor, "degrees columns"]:
    """The norms of the moment tensors of each degree t from 1 to the table's, over t!."""
    rows = [form_norms(table, state, t) / float(math.factorial(t)) for t in range(1, table.degree + 1)]
    return torch.stack(rows) * (1 + gamma(4)) if rows else state.new_zeros(0, len(state))


class Block(NamedTuple):
    """Some rows of the output, with bounds.

    Attributes:
        output: (value_dim, rows), in units of v'.
        worst: (value_dim,), at least |exact - output| in that coordinate for every row, in units of v'.
        norm: (rows,), at least the Euclidean norm of the row's error, in `Columns.unit`.
    """

    output: Tensor
    worst: Tensor
    norm: Tensor


def row_errors(
    tail: Float[Tensor, " rows"],
    size: Float[Tensor, " rows"],
    output: Float[Tensor, "value_dim rows"],
    mass: Float[Tensor, " rows"],
    account: Account,
    unit: Float[Tensor, " value_dim"],
    near: Float[Tensor, "columns rows"] | None = None,
) -> Block:
    """The output with bounds on |exact - output|, infinite where the mass may be 0.

    An entry's bound is a sum of products of a factor of its row, over its mass, and a factor of its coordinate.

    Args:
        tail, size: the rows' tail factors, and their norms.
        output: the computed quotients, without their own rounding, in units of v'.
        mass: the computed masses.
        account: of the keys that the polynomial stands for.
        unit: of v' in each coordinate, 0 for constant ones.
        near: for keys that were summed exactly but for rounding (causal chunks), the computed sums of w e^s |v'| for
            each coordinate and, last, of w e^s, which is part of `mass`.
    """
    sums, first = account.sums, account.degree - len(account.leading) + 1
    largest = output.detach().abs().amax(dim=1).double() * (1 + 2**-20)
    mass = mass.detach().double()
    # Sums of nonnegative float64 numbers over the keys, and the few operations below.
    up = 1 + gamma(2 * sums.count + 256)
    total, square, value = sums.mass * up, sums.square * up, sums.value.abs() + gamma(2 * sums.count) * sums.mass * 2
    rounding = account.relative * sums.spread.sqrt() * up
    rows = torch.stack(
        [tail, torch.ones_like(tail), *(size ** (first + index) for index in range(len(account.leading)))]
    )
    columns = torch.cat(
        [
            (square + 2 * largest * value + largest**2 * total).sqrt()[None],
            (rounding * (square.sqrt() + largest * total.sqrt()) + account.underflow * (2 + largest))[None],
            account.leading[:, :-1] + largest * account.leading[:, -1:],
        ]
    )
    ones = torch.cat([torch.stack([total.sqrt(), rounding * total.sqrt() + account.underflow]), account.leading[:, -1]])
    lost = (ones @ rows) * up
    if near is not None:
        # Twice, since the sums at hand are the computed ones.
        rounded = 2 * account.relative * near.detach().double()
        lost = lost + rounded[-1] * up
    mean = sums.first.norm() * up + gamma(2 * sums.count) * sums.length
    # Without any mass the quotient is no number, and the bound is 0.
    jensen = torch.where(sums.mass > 0, sums.mass * torch.exp(-size * mean / sums.mass * up) / up, 0.0)
    least = torch.maximum(jensen, mass * (1 - 2**-40) - lost) / up
    rows = torch.where(least > 0, rows / least, torch.inf)
    worst = _products(rows.amax(dim=1)[:, None], columns).sum(dim=0)
    norm = _products((columns * unit).norm(dim=1)[:, None], rows).sum(dim=0)
    if near is not None:
        entries = (rounded[:-1] + largest[:, None] * rounded[-1]) * rows[1]
        worst = worst + entries.amax(dim=1)
        norm = norm + _products(entries, unit[:, None]).norm(dim=0)
    return Block(output, worst * up, norm * up)


def _products(first: Tensor, second: Tensor) -> Tensor:
    """first * second, where 0 times infinity is 0: there is no such term, not an unknown one."""
    return torch.where((first == 0) | (second == 0), 0.0, first * second)


def underflow(prepared: Prepared, reach: float, largest_key: float, rank: int) -> float:
    """The most that entries below the smallest normal number add to any sum over keys, in units of v'."""
    tiny = float(torch.finfo(prepared.key.dtype).tiny)
    terms = 8.0 * (prepared.key.shape[1] + 1) * (rank + len(prepared.key) + 1)
    return terms * tiny * math.exp(min(2 * reach * largest_key, 600.0))
