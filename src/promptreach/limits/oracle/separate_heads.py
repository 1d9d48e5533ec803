"""The floor of several heads taken apart: one single-head problem for each.

Where the heads' output projections together have full column rank (the usual square W_o, or none at all),
|W_o u - t| >= sigma |u - u*| with u* = W_o^+ t, plus the part of t outside the range. Each head's block of u - u* is a
single-head problem with an exact floor. Without an output projection sigma is 1 and this is exact.

Reference: theorem key ``separate-heads-bound``.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from promptreach.limits.oracle.branch_and_bound import HeadsPoint
from promptreach.limits.oracle.floor_check import checked_floor
from promptreach.limits.oracle.single_head import head_floor
from promptreach.limits.oracle.statistics import HeadStatistics
from promptreach.rounding import gamma


def separate_floor(
    statistics: Sequence[HeadStatistics], whole: Float[Tensor, "out concatenated"], targets: Float[Tensor, "n out"]
) -> tuple[float, HeadsPoint | None, dict[str, Any]]:
    """The bound that takes the heads apart, a point near it, and what `checked_separate_floor` needs; 0, None and
    nothing without full rank.

    All in the units of `near_one`.
    """
    apart = taken_apart(whole, targets)
    if apart is None:
        return 0.0, None, {"wanted": None, "intervals": None}
    blocks = torch.split(apart.wanted, statistics[0].mean.shape[1], dim=1)
    floors = [head_floor(item, block) for item, block in zip(statistics, blocks, strict=True)]
    means = torch.stack([floor.mean for floor in floors])
    masses = torch.tensor([floor.lse for floor in floors], dtype=torch.float64)
    upper = math.hypot(apart.most * math.fsum(floor.upper**2 for floor in floors) ** 0.5, apart.rest)
    inside = math.fsum(floor.lower**2 for floor in floors)
    kept = {"wanted": apart.wanted, "intervals": [floor.boxes for floor in floors]}
    return combined(apart, inside), HeadsPoint(upper, masses, means), kept


class Apart(NamedTuple):
    """Targets behind an output projection W of full column rank, as wishes for the heads.

    Attributes:
        wanted: (n, concatenated), any matrix at all; as a rule nearly W^+ applied to each target.
        least, most: the extreme singular values of W, the first rounded down.
        rest: the norm of W wanted - targets as computed, rounded down.
        along: at least |<W x, rest>| / |W x| for every x.
        rounding: how far that difference may be off.
    """

    wanted: Tensor
    least: float
    most: float
    rest: float
    along: float
    rounding: float


def taken_apart(whole: Tensor, targets: Tensor, wanted: Tensor | None = None) -> Apart | None:
    """With W = B S V + E: sigma >= S_min |B x| |V x| / |x|^2 - |E|, and <W x, r> <= |S V x| |B^T r| + |E| |x| |r|.

    The bound holds whatever the heads' wishes are. None for `wanted` takes W^+ targets as computed here; the second
    path brings those of the first, which another machine's factorisation need not give to the last bit.
    """
    rows, columns = whole.shape
    basis, singular, right = torch.linalg.svd(whole, full_matrices=False)
    if rows < columns or float(singular[-1]) <= 1e-8 * float(singular[0]):
        return None
    identity, unit = torch.eye(columns, dtype=torch.float64), gamma(rows + columns + 8)
    outward = 1 + gamma(whole.numel() + targets.numel() + 16)
    askew = max(float((item.mT @ item - identity).norm()) for item in (basis, right.mT))
    askew = (askew + 2 * unit * columns) * outward
    size, scaled = float(whole.norm()), basis * singular
    off = (float((whole - scaled @ right).norm()) + unit * (size + float(scaled.norm() * right.norm()))) * outward
    least = (float(singular[-1]) * (1 - askew) - off) / outward
    if least <= 0:
        return None
    if wanted is None:
        wanted = ((targets @ basis) / singular) @ right
    left = wanted @ whole.mT - targets
    rest = float(left.norm())
    along = (float((left @ basis).norm()) + unit * columns * rest) * (1 + off / least) / (
        1 - askew
    ) + off * rest / least
    rounding = unit * (float(wanted.norm()) * size + float(targets.norm())) * outward
    return Apart(wanted, least, float(singular[0]), rest / outward, along * outward, rounding)


def combined(apart: Apart, inside: float) -> float:
    """|W d + r|^2 >= (|W d| - along)^2 - along^2 + |r|^2 for all d of norm sqrt(inside) or more, once |W d| > along."""
    down = 1 - gamma(16)
    reached = max(0.0, apart.least * math.sqrt(inside) * down - apart.along)
    square = max(0.0, (reached**2 + apart.rest**2) * down - apart.along**2 / down)
    return max(0.0, math.sqrt(square) * down - apart.rounding / down) * down


def checked_separate_floor(
    statistics: Sequence[HeadStatistics], whole: Tensor, targets: Tensor, kept: Mapping[str, Any]
) -> float:
    """The floor as the second path finds it, from the wishes and intervals kept; 0 where there are none."""
    wanted, intervals = kept["wanted"], kept["intervals"]
    if wanted is None or tuple(wanted.shape) != (len(targets), whole.shape[1]) or not bool(wanted.isfinite().all()):
        return 0.0
    apart = taken_apart(whole, targets, wanted)
    if apart is None:
        return 0.0
    blocks = torch.split(wanted, statistics[0].mean.shape[1], dim=1)
    floors = [
        checked_floor(item, block, None, {"boxes": boxes})
        for item, block, boxes in zip(statistics, blocks, intervals, strict=True)
    ]
    return combined(apart, math.fsum(floor**2 for floor in floors))
