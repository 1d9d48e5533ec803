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
from promptreach.limits.oracle.single_head import checked_floor, head_floor, packed_group
from promptreach.limits.oracle.statistics import HeadStatistics
from promptreach.rounding import gamma


def separate_floor(
    statistics: Sequence[HeadStatistics], whole: Float[Tensor, "out concatenated"], targets: Float[Tensor, "n out"]
) -> tuple[float, HeadsPoint | None, list[dict[str, Any]] | None]:
    """The bound that takes the heads apart, a point near it, and the packed heads; 0 and None without full rank."""
    apart = taken_apart(whole, targets)
    if apart is None:
        return 0.0, None, None
    blocks = torch.split(apart.wanted, statistics[0].mean.shape[1], dim=1)
    floors = [head_floor(item, block) for item, block in zip(statistics, blocks, strict=True)]
    means = torch.stack([floor.mean for floor in floors])
    masses = torch.tensor([floor.lse for floor in floors], dtype=torch.float64)
    upper = math.hypot(apart.most * math.fsum(floor.upper**2 for floor in floors) ** 0.5, apart.rest)
    parts = [packed_group(item, block, floor) for item, block, floor in zip(statistics, blocks, floors, strict=True)]
    inside = math.fsum(floor.lower**2 for floor in floors)
    return combined(apart, inside), HeadsPoint(upper, masses, means), parts


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


def checked_separate_floor(parts: Sequence[Mapping[str, Any]], whole: Tensor, targets: Tensor) -> float:
    """The floor from the packed heads as the second path finds it; 0 where they cannot be taken apart."""
    wanted = torch.cat([part["targets"] for part in parts], dim=1)
    apart = taken_apart(whole, targets, wanted) if wanted.shape[1] == whole.shape[1] else None
    return 0.0 if apart is None else combined(apart, math.fsum(checked_floor(part, None) ** 2 for part in parts))
