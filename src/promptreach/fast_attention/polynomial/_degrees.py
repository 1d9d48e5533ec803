"""Degrees of the polynomial method: how far keys are summed, how far queries read, and in which dtype.

The degrees are choices, not proofs: a wrong one costs time, since the certificate is computed afterwards from what was
done. What rounding can do, `relative_rounding` and `fixed_errors`, is part of that certificate; it also decides the
dtype.
"""

import torch
from torch import Tensor

from promptreach.fast_attention.polynomial._causal import near_roundings
from promptreach.fast_attention.polynomial.features import Monomials, monomials, rank, roundings
from promptreach.fast_attention.polynomial.preprocess import HeadProblem, head_problem
from promptreach.fast_attention.polynomial.remainder import KeySums, key_sums, tail_factor
from promptreach.fast_attention.problem import Head
from promptreach.fast_attention.report import ToleranceNotReachedError
from promptreach.fast_attention.tolerance import BUDGET
from promptreach.rounding import gamma, unit

PLANNED = 4096
"""Keys and queries that the degree is first estimated from; the certificate looks at all of them."""

MOST_DEGREE = 40
"""Beyond, scores are so large that the features of float64 would not carry the sums."""

CHEAP_RANK = 200
CHEAP_FEATURES = 2**21
"""Keys are summed to more degrees than the tolerance needs while that costs at most so many features a key, or so many
in all: queries then read fewer, and the certificate is made of known moments rather than of a tail, which is nearer
the truth."""

READING = 8
"""Queries read any degree that costs at most this part of the keys' moments, needed or not."""


class RoundingError(ToleranceNotReachedError):
    """The working dtype is too coarse for the tolerance."""


def needed_degree(head: Head, tol: float, workspace: int) -> tuple[int, int]:
    """PREDICTED least degree, and the coordinates, for a range error of `tol` at one head, found without its moments.

    Raises:
        ToleranceNotReachedError: when no degree fits the workspace.
    """
    problem = head_problem(head.to(torch.float64), tol, workspace, torch.float64)
    return first_degree(problem, spare=False), problem.variables


def first_degree(problem: HeadProblem, spare: bool = True) -> int:
    """The least degree whose tail, estimated from some keys and queries, keeps to its share of the tolerance.

    With `spare`, where more degrees are cheap: the least that keeps to the smaller share, or the last cheap one.
    """
    tol = problem.tol
    size, keys = problem.prepared.query_norm, problem.prepared.key.shape[1]
    rows = torch.arange(0, len(size), max(1, len(size) // PLANNED), device=size.device)
    rows = torch.cat([rows, size.argmax()[None]])
    sample, size = problem.prepared.query[:, rows], size[rows]
    for degree in range(MOST_DEGREE + 1):
        check_rank(problem, degree)
        sums = sums_of(problem, degree, slice(None, None, max(1, keys // PLANNED)))
        _check_rounding(problem, sums, degree)
        tail = float(tail_factor(sample, size, sums, degree).max()) * _spread(problem, sums)
        enough = tail <= BUDGET.tail * tol and not (spare and _cheap(problem, degree + 1))
        if enough or tail <= BUDGET.tail_where_cheap * tol:
            return degree
    raise _too_far(problem, MOST_DEGREE)


def _cheap(problem: HeadProblem, degree: int) -> bool:
    """Whether moments of this degree cost little, be it that features are few or that keys are."""
    features, keys = rank(problem.variables, degree), problem.prepared.key.shape[1]
    return degree <= MOST_DEGREE and (features <= CHEAP_RANK or features * keys <= CHEAP_FEATURES)


def _check_rounding(problem: HeadProblem, sums: KeySums, degree: int) -> None:
    """Raise unless rounding keeps to its share of the tolerance."""
    none = problem.columns.spread.new_zeros(len(problem.columns.spread))
    fixed = float((fixed_errors(problem, none) / problem.columns.spread).nan_to_num(0.0).max())
    table = monomials(problem.variables, min(degree, 2))
    moving = relative_rounding(problem, table) * float(sums.spread.sqrt()) * _spread(problem, sums)
    if not fixed + moving <= BUDGET.rounding * problem.tol:
        score = problem.reach * problem.largest_key
        reason = (
            f"centred scores reach up to {score:.1f} nats, and rounding in {problem.prepared.key.dtype} may move the "
            f"output by {fixed + moving:.1e} of its range"
        )
        raise RoundingError("polynomial", problem.tol, [reason])


def sums_of(problem: HeadProblem, degree: int, part: slice) -> KeySums:
    """The sums that the bound for moments up to `degree` needs, over the keys in `part`."""
    prepared, columns = problem.prepared, problem.columns
    keys = (prepared.key[:, part], prepared.key_norm[part], prepared.weight[part], columns.value[:, part])
    return key_sums(*keys, degree, problem.reach, problem.block)


def _spread(problem: HeadProblem, sums: KeySums) -> float:
    """Turns a tail factor into a share of the range: the largest root of sum w v'^2, over W and the range."""
    moving = problem.columns.spread > 0
    if not bool(moving.any()):
        return 0.0
    return float((sums.square[moving].sqrt() / problem.columns.spread[moving]).max() / sums.mass)


def check_rank(problem: HeadProblem, degree: int) -> None:
    """Raise unless the features of this degree fit the workspace."""
    features, columns = rank(problem.variables, degree), len(problem.columns.value) + 1
    needed = features * (24 * columns + 128 * problem.prepared.key.element_size())
    if needed > problem.workspace or degree > MOST_DEGREE:
        raise _too_far(problem, degree)


def _too_far(problem: HeadProblem, degree: int) -> ToleranceNotReachedError:
    features = rank(problem.variables, degree)
    reason = (
        f"centred scores reach up to {problem.reach * problem.largest_key:.1f} nats, which need at least degree "
        f"{degree} in {problem.variables} coordinates: {features:,} features, beyond a workspace of "
        f"{problem.workspace:,} bytes or degree {MOST_DEGREE}"
    )
    return ToleranceNotReachedError("polynomial", problem.tol, [reason])


def relative_rounding(problem: HeadProblem, table: Monomials) -> float:
    """Gamma: the relative rounding between keys and queries and the sums that are read."""
    dtype = problem.prepared.key.dtype
    relative = gamma(roundings(table, problem.prepared.key.shape[1], dtype), dtype)
    if problem.head.seen is None:
        return relative
    return max(relative, near_roundings(problem.variables, problem.reach * problem.largest_key, dtype))


def cheap_degree(problem: HeadProblem, table: Monomials) -> int:
    """The largest degree that queries read for a small part of what the keys' moments have cost."""
    spent = table.rank * problem.prepared.key.shape[1] / READING
    rows = problem.prepared.query.shape[1]
    return max((degree for degree in range(table.degree) if table.offsets[degree + 1] * rows <= spent), default=0)


def least_degree(problem: HeadProblem, sums: KeySums, tail: Tensor, leading: Tensor, relative: float) -> int:
    """The least degree that queries have to read, judged by the query that reaches furthest."""
    known, moving = len(leading), problem.columns.spread > 0
    powers = torch.tensor([problem.reach ** (degree + 1) for degree in range(known)], dtype=torch.float64)
    steps = powers.to(leading.device)[:, None] * leading / sums.mass
    fixed = (float(tail.max()) + relative * float(sums.spread.sqrt())) * _spread(problem, sums)
    output = steps[:, :-1].sum(dim=0)
    for degree in range(known):
        rest = steps[degree:].sum(dim=0)
        share = ((rest[:-1] + output * rest[-1]) / problem.columns.spread)[moving]
        if fixed + float(share.max() if len(share) else 0.0) <= BUDGET.read * problem.tol:
            return degree
    return known


def fixed_errors(problem: HeadProblem, largest: Tensor) -> Tensor:
    """The most that the free moves and the last roundings move an entry of a coordinate by, in units of v'."""
    columns, dtype = problem.columns, problem.prepared.key.dtype
    # Weights that all change by factors within exp(+-x) move a weighted mean by at most tanh(x / 2) of the range.
    moved = 0.5 * (problem.prepared.score_error + problem.prepared.weight_error)
    moves = (moved + unit(dtype)) * (1 + gamma(8)) * columns.spread
    result = largest + columns.centre.double().abs() / columns.scale.double()
    last = 2 * unit(dtype) * largest + (unit(dtype) + unit(problem.output_dtype)) * result
    lowest = (torch.finfo(dtype).tiny + torch.finfo(problem.output_dtype).tiny) / columns.scale.double()
    return (moves + last * (1 + 2**-10) + lowest).masked_fill(columns.spread == 0, 0.0)
