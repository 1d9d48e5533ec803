"""The floor of a layer with several heads: whichever of the bounds is largest, as one certificate.

* **Separate heads.** Where the heads' output projections together have full column rank (the usual square W_o, or none
  at all), |W_o u - t| >= sigma |u - u*| with u* = W_o^+ t, plus the part of t outside the range. Each head's block of
  u - u* is a single-head problem with an exact floor. Without an output projection sigma is 1 and this is exact.
* **Boxes.** Up to four heads: branch and bound over the masses (`heads`, `box_bound`).

Both carry their rounding, so both are proofs. Both treat the masses of heads as free, also of heads that share keys and
values: a lower bound in any case.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from promptreach.certificate import Assumption, Certificate, Evidence, Independence, Side, rechecks
from promptreach.limits.oracle.box_bound import mass_problem
from promptreach.limits.oracle.box_check import bounded, tiles
from promptreach.limits.oracle.heads import BUDGET, MOST_HEADS, HeadsPoint, branch_and_bound, solved_at
from promptreach.limits.oracle.single_head import checked_floor, head_floor, packed_group
from promptreach.limits.oracle.statistics import HeadStatistics
from promptreach.norms import gamma

_BOX_COST = 1e8  # multiplications, roughly, that the branch and bound may spend on factorising designs


class GroupBound(NamedTuple):
    """One query group of a layer with several heads.

    Attributes:
        lower: certified: for every prompt, the Euclidean norm of all residuals is at least this.
        best: where the best prompt for this group alone was found.
        witness: what `recheck_heads` needs.
    """

    lower: float
    best: HeadsPoint
    witness: dict[str, Any]


def heads_floor(
    statistics: Sequence[HeadStatistics],
    output: Float[Tensor, "out concatenated"] | None,
    targets: Float[Tensor, "n out"],
) -> GroupBound:
    """The certified floor of one query group, and the best masses and means found.

    For every prompt of every length, the Euclidean norm of all residuals of the group is at least ``lower``, in
    exact arithmetic and with whatever the statistics' own account leaves open.

    Args:
        statistics: one per head, of the same examples.
        output: the whole output projection, the heads' slices side by side; None for the identity.
        targets: without the output bias.

    Reference: theorem keys ``separate-heads-bound`` and ``several-heads-box-bound``.
    """
    heads, width = len(statistics), statistics[0].mean.shape[1]
    whole = torch.eye(heads * width, dtype=torch.float64) if output is None else output
    outputs = torch.split(whole, width, dim=1)
    separate, best, parts = _separate(statistics, whole, targets)
    witness: dict[str, Any] = {"output": output, "targets": targets, "heads": parts, "boxes": None}
    if parts is None:
        witness["heads"] = [packed_group(item, targets[:, :0], None) for item in statistics]
    if output is not None:
        # One column per head where each reaches every output direction, else one per value dimension (and slower ones).
        n, out = targets.shape
        cost = n * heads * (heads + out) if width >= out else 10 * n * out * (heads * width) ** 2
        budget = int(_BOX_COST / (cost + 400))
        free = heads <= MOST_HEADS and not any(item.zero_query for item in statistics)
        problem = mass_problem(statistics, outputs, targets) if free and budget > 100 else None
        if problem is not None:
            lower, upper, place, boxes = branch_and_bound(problem, budget=min(budget, BUDGET))
            found = solved_at(statistics, outputs, targets, place)
            best = found if best is None or found.error < best.error else best
            if lower > separate:
                separate = lower
                witness |= {"boxes": boxes, "lower": lower, "upper": upper}
        if best is None:
            middle = torch.full((heads,), 0.5, dtype=torch.float64)
            best = solved_at(statistics, outputs, targets, middle)
    assert best is not None
    return GroupBound(separate, best, witness)


def heads_certificate(bounds: Sequence[GroupBound], entries: int) -> Certificate:
    """The floor over all groups as one certificate, PROVED: each group bounds its own examples, for any one prompt."""
    value = (sum(bound.lower**2 for bound in bounds) / entries) ** 0.5 * (1 - gamma(len(bounds) + 8))
    boxed = any(bound.witness["boxes"] is not None for bound in bounds)
    return Certificate(
        claim=(
            "for every prompt of any length, the root-mean-square error of the attention layer at the last tokens over "
            f"all {entries} target entries is at least value"
        ),
        value=max(0.0, value),
        side=Side.LOWER,
        evidence=Evidence.PROVED,
        assumptions=(
            Assumption("examples of one group share their last token", True, "compared bit by bit"),
            Assumption(
                "the target entries are compared before any residual, norm or feed-forward", True, "by definition"
            ),
        ),
        theorem="several-heads-box-bound" if boxed else "separate-heads-bound",
        witness={"entries": entries, "groups": [bound.witness for bound in bounds]},
        checker="limits.oracle.several:recheck_heads",
    )


def _separate(
    statistics: Sequence[HeadStatistics], whole: Tensor, targets: Tensor
) -> tuple[float, HeadsPoint | None, list[dict[str, Any]] | None]:
    """The bound that takes the heads apart; 0 where their projections do not have full column rank."""
    apart = _taken_apart(whole, targets)
    if apart is None:
        return 0.0, None, None
    blocks = torch.split(apart.wanted, statistics[0].mean.shape[1], dim=1)
    floors = [head_floor(item, block) for item, block in zip(statistics, blocks, strict=True)]
    means = torch.stack([floor.mean for floor in floors])
    masses = torch.tensor([floor.log_mass for floor in floors], dtype=torch.float64)
    upper = math.hypot(apart.most * math.fsum(floor.upper**2 for floor in floors) ** 0.5, apart.rest)
    parts = [packed_group(item, block, floor) for item, block, floor in zip(statistics, blocks, floors, strict=True)]
    inside = math.fsum(floor.lower**2 for floor in floors)
    return _combined(apart, inside), HeadsPoint(upper, masses, means), parts


class _Apart(NamedTuple):
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


def _taken_apart(whole: Tensor, targets: Tensor, wanted: Tensor | None = None) -> _Apart | None:
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
    return _Apart(wanted, least, float(singular[0]), rest / outward, along * outward, rounding)


def _combined(apart: _Apart, inside: float) -> float:
    """|W d + r|^2 >= (|W d| - along)^2 - along^2 + |r|^2 for all d of norm sqrt(inside) or more, once |W d| > along."""
    down = 1 - gamma(16)
    reached = max(0.0, apart.least * math.sqrt(inside) * down - apart.along)
    square = max(0.0, (reached**2 + apart.rest**2) * down - apart.along**2 / down)
    return max(0.0, math.sqrt(square) * down - apart.rounding / down) * down


@rechecks(Independence.SHARED, quick=0, extended=True)
def recheck_heads(certificate: Certificate) -> bool:
    """Second path, in extended precision: single-head floors again; or that the boxes leave no masses out, and hold.

    Where the platform has no extended precision, it answers False rather than repeat the first path.
    """
    if np.finfo(np.longdouble).nmant <= 52:
        return False
    witness, total = certificate.witness, 0.0
    for group in witness["groups"]:
        total += _checked_group(group) ** 2
    return bool(0.0 <= certificate.value <= (total / witness["entries"]) ** 0.5)


def _checked_group(group: Mapping[str, Any]) -> float:
    targets, parts = group["targets"], group["heads"]
    if group["boxes"] is None:
        width = parts[0]["mean"].shape[1]
        whole = torch.eye(len(parts) * width, dtype=torch.float64) if group["output"] is None else group["output"]
        wanted = torch.cat([part["targets"] for part in parts], dim=1)
        apart = _taken_apart(whole, targets, wanted) if wanted.shape[1] == whole.shape[1] else None
        if apart is None:
            return 0.0
        return _combined(apart, math.fsum(checked_floor(part, None) ** 2 for part in parts))
    statistics = [_statistics(part) for part in parts]
    outputs = torch.split(group["output"], statistics[0].mean.shape[1], dim=1)
    sure = tiles(group["boxes"]) and bounded(
        statistics, outputs, targets, group["boxes"], group["lower"], group["upper"]
    )
    return max(0.0, float(group["lower"])) if sure else 0.0


def _statistics(part: Mapping[str, Any]) -> HeadStatistics:
    return HeadStatistics(
        part["log_mass"], part["mean"], part["log_mass_error"], part["mean_error"], zero_query=part["zero_query"]
    )
