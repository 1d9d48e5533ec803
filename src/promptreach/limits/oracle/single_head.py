"""The least error of one head at one query token: from weights and targets to a certified floor, and back to (a, b).

The targets are compared behind the output projection W: the residual of example i is W u_i - t_i, where u_i is the
head's output. What no u can change, the part of t_i outside the range of W, is a constant; inside that range the value
sum of the prompt is free, and the search over its mass (`mass_search`) is exact. Rounding on the way there is bounded
and taken off the floor:

* The statistics. If Z' = Z (1 + eps) and |h' - h| <= delta, then for every a and b
  |r'_i| >= |r_i| / (1 + eps) - (1 + eps) (|W| delta + eps (|W h_i| + |t_i|)).
* The basis Q of the range. With W = Q R + E and Q within eta of orthonormal, |W u - t| differs from what is searched by
  at most |E| |u| + eta (|R u| + |t|); wherever the error is at most |t|, |R u| is at most 2 |t| / (1 - eta - |E| /
  sigma).

* The middle. Content and targets are taken less one vector, which the value sum of a prompt makes up for, so that a
  large offset costs no digits. What that rounds is a part of either.

All numbers are multiplied by a power of two first (`scales`), so that the largest is near 1; what underflows then is
far below the last term, `_NOTHING`.

The account of the basis needs full column rank. Elsewhere, directions that W nearly loses could still be reached with
enormous values, so the floor is searched in the whole output space: a superset of every range, which needs no basis and
no cap on the values. The floor is then lower than it could be, and the prompt comes from a second search, in the range
that float64 sees.

Reference: theorem keys ``one-query-reachability`` and ``one-query-dual-bound``.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from promptreach.errors import raise_if_any
from promptreach.limits.oracle.checks import spread_faults
from promptreach.limits.oracle.mass_search import minimise
from promptreach.limits.oracle.scales import exponent, lowered, times_power
from promptreach.limits.oracle.statistics import HeadStatistics
from promptreach.rounding import UNIT, gamma

RANK_TOLERANCE = 1e-10
"""Singular values of an output projection below this share of the largest one count as 0 where prompts are built."""

_NOTHING = 1e-100  # what underflows counts for less, where the largest number is near 1


@dataclass(frozen=True, eq=False)
class HeadFloor:
    """The least error of one head at one query.

    Attributes:
        lower: certified, with all rounding taken off: for every prompt, the Euclidean norm of all residuals is at least
            this.
        upper: the same norm at `lse` and `mean`, as computed.
        lse: log a of the best prompt, in nats (absolute); -inf for no prompt at all.
        mean: b / a of the best prompt, in the head's value space.
        attained: False when only a -> 0 or a -> infinity approaches the infimum, or when `upper` is not that close.
        boxes: the intervals of log a behind `lower`, counted from the `middle` of the log masses.
    """

    lower: float
    upper: float
    lse: float
    mean: Float[Tensor, " value_dim"]
    attained: bool
    boxes: Float[Tensor, "boxes 2"]


@dataclass(frozen=True, eq=False)
class Reduced:
    """The problem inside a space that holds the range of the output projection.

    Attributes:
        content, targets: (n, r) coordinates in that space.
        outside: the norm of the targets' part outside it.
        loss: how much of the floor rounding may cost, as a norm over all examples.
        lift: (value_dim, r), from coordinates to values; None for the identity.
        middle: (r,), what was taken off content and targets.
        numerical: the same problem in the range as float64 sees it, where that is smaller; bounds nothing.
    """

    content: Tensor
    targets: Tensor
    outside: float
    loss: float
    lift: Tensor | None
    middle: Tensor | None = None
    numerical: "Reduced | None" = None

    def values(self, mean: Tensor) -> Tensor:
        """b / a in the head's value space, from the mean of the search."""
        if self.middle is not None:
            mean = mean + self.middle
        return mean if self.lift is None else self.lift @ mean


def head_floor(
    statistics: HeadStatistics, targets: Float[Tensor, "n out"], output: Float[Tensor, "out value_dim"] | None = None
) -> HeadFloor:
    """The least error of one head at one query over every prompt of every length, certified from below.

    For every m >= 1 and all m prompt slots (any keys, any values), the norm of output - targets over all examples is at
    least ``lower``; ``upper`` is within a relative 1e-9 of it as far as rounding allows and `output` has full column or
    row rank. Soft prompts are among these prompts; whether one *reaches* the floor is a separate question
    (`soft_tokens`).

    Args:
        statistics: of the examples, which share the query token.
        targets: without the output bias.
        output: the head's slice of the output projection; None for the identity.

    Raises:
        InputError: when the log masses spread over more than 600 nats.
    """
    raise_if_any(spread_faults("sequences", statistics.lse))
    (statistics,), targets, output, power, value_power = near_one([statistics], targets, output)
    problem = reduced(statistics, targets, output)
    floor = minimise(statistics.lse, problem.content, problem.targets, statistics.zero_query)
    lower = in_exact_arithmetic(floor.lower, problem, statistics, targets)
    best, attained = floor, floor.attained
    if problem.numerical is not None:
        problem = problem.numerical
        best = minimise(statistics.lse, problem.content, problem.targets, statistics.zero_query)
    upper = math.hypot(best.upper, problem.outside)
    if best is not floor:
        # Says only whether the built prompt counts as the best one, to the digits of the search; it bounds nothing.
        attained = best.attained and upper <= lower * (1 + 1e-9)
    mean = times_power(problem.values(best.mean), value_power)
    upper = float(times_power(torch.tensor(upper, dtype=torch.float64), power))
    return HeadFloor(lowered(lower, power), upper, best.lse, mean, attained, floor.boxes)


def near_one(
    statistics: Sequence[HeadStatistics], targets: Tensor, output: Tensor | None
) -> tuple[list[HeadStatistics], Tensor, Tensor | None, int, int]:
    """The problem in units in which its largest numbers are near 1: true are errors times 2^p and means times 2^q.

    Returns:
        statistics, targets, output, p, q.
    """
    through = 0 if output is None else exponent(output) or 0
    sizes = [exponent(targets), exponent(*(item.mean for item in statistics))]
    known = [size + through * (index == 1) for index, size in enumerate(sizes) if size is not None]
    power = max(known, default=0)
    value_power = power - through
    scaled = [
        replace(
            item,
            mean=times_power(item.mean, -value_power),
            mean_error=times_power(item.mean_error, -value_power) + _NOTHING * bool(item.mean_error.any()),
        )
        for item in statistics
    ]
    return (
        scaled,
        times_power(targets, -power),
        None if output is None else times_power(output, -through),
        power,
        value_power,
    )


def in_exact_arithmetic(searched: float, problem: Reduced, statistics: HeadStatistics, targets: Tensor) -> float:
    """The floor of the layer in exact arithmetic, from that of the reduced problem."""
    inside = math.hypot(searched, problem.outside) * (1 - gamma(8))
    relative = mass_error(statistics)
    floor: float = inside / (1 + relative) * (1 - gamma(4)) - problem.loss - _NOTHING
    return max(0.0, min(floor, float(targets.norm()) * (1 - gamma(targets.numel()))))


def mass_error(statistics: HeadStatistics) -> float:
    """The largest relative error of any mass, that of exponentiating it here included."""
    rounding = 8 * UNIT * (1 + float(statistics.lse.abs().max()))
    return float(torch.expm1(statistics.lse_error.max() + rounding)) * (1 + gamma(8))


def reduced(statistics: HeadStatistics, targets: Tensor, output: Tensor | None) -> Reduced:
    """The problem in the range of the output projection, with the account of rounding."""
    mean, relative = statistics.mean, mass_error(statistics)
    stretch, rounding = 1.0, torch.zeros_like(statistics.lse)
    if output is None:
        parts = Reduced(mean, targets, 0.0, 0.0, None)
    else:
        stretch = float(output.norm()) * (1 + gamma(output.numel() + 4))
        rounding = gamma(output.shape[1] + 4) * mean.norm(dim=1) * stretch
        parts = _in_range(output, mean, targets)
    parts = _centred(parts)
    sizes = parts.content.norm(dim=1) + parts.targets.norm(dim=1)
    error = stretch * statistics.mean_error + (relative + gamma(2)) * sizes + rounding
    loss = float(error.norm()) * (1 + relative) * (1 + gamma(targets.shape[0] + 16)) + 4 * UNIT * float(targets.norm())
    return replace(parts, loss=parts.loss + loss)


def _centred(parts: Reduced) -> Reduced:
    """The same problem with one vector taken off content and targets alike."""
    middle = parts.targets.mean(dim=0)
    narrow = None if parts.numerical is None else _centred(parts.numerical)
    return replace(
        parts, content=parts.content - middle, targets=parts.targets - middle, middle=middle, numerical=narrow
    )


def _in_range(output: Tensor, mean: Tensor, targets: Tensor) -> Reduced:
    """Content and targets in coordinates of a space that holds the range of the output projection.

    That is the range itself for full column rank, where `loss` has the cost of its basis; else the whole output space.
    Ranks only choose between spaces that all hold the range, so it does not matter that they are numerical.
    """
    # Zero rows and columns are rank deficient exactly, and harmless.
    rows, columns = output.any(dim=1), output.any(dim=0)
    core, seen = output[rows][:, columns], targets[:, rows]
    unseen = float(targets[:, ~rows].norm())
    if not core.numel():
        nothing = mean.new_zeros(mean.shape[0], 1)
        return Reduced(nothing, nothing, unseen, 0.0, mean.new_zeros(mean.shape[1], 1))
    basis, singular, right = torch.linalg.svd(core, full_matrices=False)
    rank = int((singular > RANK_TOLERANCE * singular[0]).sum())
    basis, inner = basis[:, :rank], singular[:rank, None] * right[:rank]
    lift = mean.new_zeros(mean.shape[1], rank)
    lift[columns] = right[:rank].mT / singular[:rank]
    if rank == core.shape[0]:
        return Reduced(mean[:, columns] @ core.mT, seen, unseen, 0.0, lift @ basis.mT)
    inside = seen @ basis
    outside = math.hypot(unseen, float((seen - inside @ basis.mT).norm()))
    loss = _basis_loss(core, basis, inner, float(singular[rank - 1]), targets)
    narrow = Reduced(mean[:, columns] @ inner.mT, inside, outside, loss, lift)
    if rank == core.shape[1]:
        return narrow
    return Reduced(mean[:, columns] @ core.mT, seen, unseen, 0.0, lift @ basis.mT, numerical=narrow)


def _basis_loss(output: Tensor, basis: Tensor, inner: Tensor, least: float, targets: Tensor) -> float:
    """The part of the floor that the basis of the range of a projection of full column rank may cost."""
    rows, rank = basis.shape
    size = float(targets.norm()) * (1 + gamma(targets.numel()))
    eta = float((basis.mT @ basis - torch.eye(rank, dtype=basis.dtype)).norm()) + 2 * gamma(rows + 4) * rank
    rest = float((output - basis @ inner).norm()) * (1 + gamma(output.numel() + 4))
    rest += gamma(rank + 6) * (float(basis.norm()) * float(inner.norm()) + float(output.norm()))
    rounding = 4 * (eta + gamma(rows + 4)) * size
    ratio = rest / least * (1 + 1e-6)
    # The account needs a basis that is nearly exact; without one nothing is left of the floor.
    return 2.1 * (ratio + eta) * size + rounding if ratio + eta < 0.01 else size
