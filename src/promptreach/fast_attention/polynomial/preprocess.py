"""The free moves: what changes the queries and keys of a head, and no output.

In exact arithmetic, for any vectors m_q and m_k and any maps with A B^T = I,

    scale q_i.k_j = scale m_q.k_j + scale (q_i - m_q).m_k + q'_i.k'_j,   q' = scale (q - m_q) B,   k' = (k - m_k) A.

The first term is a weight w_j = exp(scale m_q.k_j) of the key, the same for every query; the second cancels in the
softmax; the third is what has to be approximated, and centring makes it small: m_q is the mean query and m_k the mean
key under the weights. A and B are chosen so that queries and keys have the *same diagonal* second moment: the variances
of the score along the coordinates. Then |q'||k'| is as small as a linear map makes it on average, and the coordinates
whose products cannot matter can be dropped.

Nothing is assumed of how well the means and maps were computed; any will do. What their rounding and the dropped
coordinates can change of a score or a weight is bounded and stated with the result.

Notation:
    ========= =========================================== ==================
    letter    meaning                                     shape
    ========= =========================================== ==================
    q', k'    queries and keys after the moves            (variables, rows), (variables, n)
    w         key weights, the largest is 1               (n,)
    A, B      maps of keys and queries                    (head_dim, head_dim)
    ========= =========================================== ==================

Reference: theorem key ``centring-invariance``.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from promptreach.fast_attention.problem import Head
from promptreach.fast_attention.tolerance import BUDGET
from promptreach.rounding import gamma, unit

RIDGE = 1e-8
"""Addition to the keys' second moment, relative to its mean, before it is inverted: it bounds the maps."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """A head after the free moves. With s_ij = q'_i.k'_j, its exact output is that of softmax(s_ij + log w_j), if the
    scores move by at most `score_error` and the weights by a factor of at most exp(`weight_error`).

    Attributes:
        query: (variables, rows), position last; the rows are those of ``head.rows``.
        key: (variables, n).
        query_norm, key_norm: (rows,) and (n,), at least their Euclidean norms, float64.
        weight: (n,), in [0, 1]; the largest is 1.
        score_error: nats; for every query and key, rounding and dropped coordinates together.
        weight_error: nats.
    """

    query: Float[Tensor, "variables rows"]
    key: Float[Tensor, "variables n"]
    query_norm: Float[Tensor, " rows"]
    key_norm: Float[Tensor, " n"]
    weight: Float[Tensor, " n"]
    score_error: float
    weight_error: float


@dataclass(frozen=True, eq=False)
class _Maps:
    query_mean: Tensor
    key_mean: Tensor
    query_map: Tensor
    key_map: Tensor
    variance: Tensor


def prepare(head: Head, drop: float, workspace: int) -> Prepared:
    """The head after centring, weighting and balancing, without coordinates that move no score by more than `drop`.

    Gradients flow from the result to queries and keys; the means and maps count as constants, which changes no gradient
    because the moves are exact whatever they are.

    Args:
        head: any head.
        drop: nats, for all dropped coordinates together.
        workspace: bytes for float64 copies of queries and keys; where they do not fit, blocks are copied as needed.
    """
    dtype, queries, keys = head.query.dtype, head.rows, head.key
    if 16 * (queries.numel() + keys.numel()) <= workspace:
        queries, keys = queries.double(), keys.double()
    block = max(256, workspace // (32 * keys.shape[-1]))
    query_mean = _mean(queries, block)
    weight, logit_error = _key_weights(keys, head.scale * query_mean, block)
    maps = _maps(queries, keys, head.scale, query_mean, weight.detach(), block)
    query = _mapped(queries, maps.query_mean, maps.query_map * head.scale, block, dtype)
    key = _mapped(keys, maps.key_mean, maps.key_map, block, dtype)
    kept, lost = _kept(query.detach(), key.detach(), maps.variance, drop)
    if not bool(kept.all()):
        query, key = query[kept], key[kept]
    query_norm, key_norm = norms(query), norms(key)
    products = float(query_norm.max() * key_norm.max())
    tiny = len(query) * float(torch.finfo(dtype).tiny * (query_norm.max() + key_norm.max() + 1))
    moved = _map_error(maps) * abs(head.scale) * _reach(queries, maps.query_mean) * _reach(keys, maps.key_mean)
    return Prepared(
        query,
        key,
        query_norm,
        key_norm,
        weight.to(dtype),
        # Rounding to the working dtype moves each product of entries by less than 3 units of it, or is underflow.
        score_error=(lost + moved + 3 * unit(dtype) * products + tiny) * (1 + gamma(8)),
        weight_error=logit_error + 1.5 * unit(dtype),
    )


def norms(x: Float[Tensor, "variables positions"]) -> Float[Tensor, " positions"]:
    """At least the Euclidean norm of each column; computed in its dtype, returned in float64."""
    fixed = x.detach()
    squares = fixed.square().sum(dim=0) + len(x) * torch.finfo(x.dtype).tiny
    return squares.double().sqrt() * (1 + gamma(len(x) + 8, x.dtype))


@dataclass(frozen=True, eq=False)
class Columns:
    """Values centred and scaled, position last: v' = (v - centre) / scale, so that every range is in [1, 2) or 0.

    Attributes:
        value: (value_dim, n), v'.
        centre: (value_dim,), the weighted mean value, rounded, within the values' range.
        scale: (value_dim,), powers of two.
        spread: (value_dim,), max - min of v', float64; 0 for a constant coordinate.
    """

    value: Float[Tensor, "value_dim n"]
    centre: Float[Tensor, " value_dim"]
    scale: Float[Tensor, " value_dim"]
    spread: Float[Tensor, " value_dim"]

    @property
    def unit(self) -> Float[Tensor, " value_dim"]:
        """Error in the values for an error of 1 in v', over the largest of any coordinate, so that squares do not
        underflow; float64, and 0 for a constant coordinate, whose sums all are 0."""
        unit = self.scale.double() * (self.spread > 0)
        return unit / unit.max() if bool(unit.any()) else unit


def prepare_values(head: Head, weight: Float[Tensor, " n"]) -> Columns:
    """Values relative to their weighted mean: a share of the error bound is their spread, not their size.

    A constant coordinate becomes exactly 0, since its centre is the constant. Subtracting rounds once; the power of two
    does not round. Both count as constants to gradients, which changes none.
    """
    value = head.value.mT.contiguous()
    fixed, mass = value.detach(), weight.detach()
    low, high = fixed.amin(dim=1), fixed.amax(dim=1)
    centre = (fixed @ mass / mass.sum()).clamp(low, high)
    _, exponent = torch.frexp(high - low)
    scale = torch.ldexp(torch.ones_like(low), exponent - 1).masked_fill(high == low, 1.0)
    return Columns(
        (value - centre[:, None]) / scale[:, None], centre, scale, (high.double() - low.double()) / scale.double()
    )


@dataclass(frozen=True, eq=False)
class HeadProblem:
    """One head after the free moves, with the sizes that every step needs.

    Attributes:
        reach, largest_key: the largest norm of a query and of a key.
        tol: the range error wanted.
        workspace: bytes.
        output_dtype: what the output is rounded to at last.
    """

    head: Head
    prepared: Prepared
    columns: Columns
    reach: float
    largest_key: float
    tol: float
    workspace: int
    output_dtype: torch.dtype

    @property
    def variables(self) -> int:
        return len(self.prepared.key)

    @property
    def block(self) -> int:
        """Rows whose bounds, about ten float64 numbers an entry, fit the workspace."""
        return max(256, self.workspace // (80 * (len(self.columns.value) + self.variables)))


def head_problem(head: Head, tol: float, workspace: int, output_dtype: torch.dtype) -> HeadProblem:
    """The head after the free moves; coordinates that cannot matter to `tol` are dropped."""
    # A dropped coordinate would get no gradient, though it may matter to one.
    drop = 0.0 if head.query.requires_grad or head.key.requires_grad else BUDGET.dropped * tol
    prepared = prepare(head, drop, workspace)
    columns = prepare_values(head, prepared.weight)
    reach, largest = float(prepared.query_norm.max()), float(prepared.key_norm.max())
    return HeadProblem(head, prepared, columns, reach, largest, tol, workspace, output_dtype)


def _blocks(tensor: Tensor, block: int) -> Iterator[Tensor]:
    return (part.double() for part in torch.split(tensor, block))


def _mean(tensor: Tensor, block: int) -> Tensor:
    return torch.stack([part.sum(dim=0) for part in _blocks(tensor.detach(), block)]).sum(dim=0) / len(tensor)


def _reach(tensor: Tensor, mean: Tensor) -> float:
    """At least |x| + |mean| for every x."""
    low, high = torch.aminmax(tensor.detach())
    return (math.sqrt(len(mean)) * float(max(-low, high)) + float(mean.norm())) * (1 + gamma(len(mean) + 8))


def _key_weights(keys: Tensor, direction: Tensor, block: int) -> tuple[Tensor, float]:
    """w_j = exp(direction.k_j) over its maximum, in float64, and the error of its logarithm."""
    logit = torch.cat([part @ direction for part in _blocks(keys, block)])
    weight = torch.exp(logit - logit.detach().max())
    size = float(direction.norm()) * _reach(keys, torch.zeros_like(direction))
    # The dot product, the subtraction of the largest (a constant factor, whatever its own error) and exp.
    return weight, gamma(keys.shape[1] + 8) * 3 * size + gamma(4)


def _maps(queries: Tensor, keys: Tensor, scale: float, query_mean: Tensor, weight: Tensor, block: int) -> _Maps:
    """Means and balancing maps. Any answer is valid; a bad one only costs accuracy elsewhere."""
    pairs = zip(_blocks(keys.detach(), block), torch.split(weight, block), strict=True)
    key_mean = torch.stack([mass @ part for part, mass in pairs]).sum(dim=0) / weight.sum()
    query_moment = _moment(queries, query_mean, None, block) * scale**2
    key_moment = _moment(keys, key_mean, weight, block)
    ridge = RIDGE * float(key_moment.trace()) / len(key_moment)
    eye = torch.eye(len(key_moment), dtype=torch.float64, device=weight.device)
    spread, axes = torch.linalg.eigh(key_moment + (ridge or 1.0) * eye)
    root = spread.clamp_min(ridge or 1.0).sqrt()
    variance, turn = torch.linalg.eigh((root[:, None] * axes.mT) @ query_moment @ (axes * root))
    # Coordinates that carry nothing get the stretch of the least that does, so that the maps stay bounded.
    variance = variance.clamp_min(0.0)
    stretch = variance.clamp_min(max(RIDGE * float(variance.max()), 1e-100)) ** 0.25
    return _Maps(query_mean, key_mean, (axes * root) @ turn / stretch, (axes / root) @ turn * stretch, variance)


def _moment(tensor: Tensor, mean: Tensor, weight: Tensor | None, block: int) -> Tensor:
    """The (weighted) mean of (x - mean)(x - mean)^T, for the mean under these weights."""
    total = torch.zeros(tensor.shape[1], tensor.shape[1], dtype=torch.float64, device=tensor.device)
    mass = float(len(tensor)) if weight is None else float(weight.sum())
    for start, part in zip(range(0, len(tensor), block), _blocks(tensor.detach(), block), strict=True):
        total += (part if weight is None else part * weight[start : start + block, None]).mT @ part
    return total / mass - torch.outer(mean, mean)


def _mapped(tensor: Tensor, mean: Tensor, matrix: Tensor, block: int, dtype: torch.dtype) -> Tensor:
    """((x - mean) matrix)^T, computed in float64 and rounded once."""
    shift = (mean @ matrix)[:, None]
    return torch.cat([(matrix.mT @ part.mT - shift).to(dtype) for part in _blocks(tensor, block)], dim=1)


def _kept(query: Tensor, key: Tensor, variance: Tensor, drop: float) -> tuple[Tensor, float]:
    """The coordinates that stay, and how far the others together can move a score, in nats."""
    reach = query.abs().amax(dim=1).double() * key.abs().amax(dim=1).double() * (1 + 4 * unit(query.dtype))
    order = variance.argsort()
    lost = reach[order].cumsum(0) * (1 + gamma(len(order) + 2))
    count = int((lost <= drop).sum())
    kept = torch.ones_like(variance, dtype=torch.bool)
    kept[order[:count]] = False
    return kept, float(lost[count - 1]) if count else 0.0


def _map_error(maps: _Maps) -> float:
    """e such that mapping in float64 changes (q - m_q).(k - m_k) by at most e (|q| + |m_q|) (|k| + |m_k|).

    With E = I - B A^T the exactly mapped vectors have the product (q - m_q)^T (I - E) (k - m_k), and computed maps of a
    vector x err by gamma |x| |A| in norm.
    """
    sizes = float(maps.query_map.norm()) * float(maps.key_map.norm())
    rest = maps.query_map @ maps.key_map.mT - torch.eye(
        len(maps.key_map), dtype=torch.float64, device=maps.key_map.device
    )
    return float(rest.norm()) * (1 + gamma(rest.numel())) + 8 * gamma(len(rest) + 6) * sizes
