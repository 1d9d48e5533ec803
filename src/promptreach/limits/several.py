"""The floor of a layer with several heads: whichever of the bounds is largest, as one certificate.

* **Separate heads.** Where the heads' output projections together have full column rank (the usual square W_o, or none
  at all), |W_o u - t| >= sigma |u - u*| with u* = W_o^+ t, plus the part of t outside the range. Each head's block of
  u - u* is a single-head problem with an exact floor. Without an output projection sigma is 1 and this is exact.
* **Boxes.** Up to four heads: branch and bound over the masses (`heads`).

Both treat the masses of heads as free, also of heads that share keys and values: a lower bound in any case.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from promptreach.certificate import Assumption, Certificate, Evidence, Side, rechecks
from promptreach.limits.heads import BUDGET, MOST_HEADS, HeadsFloor, branch_and_bound, errors_at, leaf_bounds, solved_at
from promptreach.limits.single_head import checked_floor, head_floor, packed_group
from promptreach.limits.statistics import HeadStatistics

_ROUNDING = 1e-9
_BOX_COST = 1e8  # multiplications, roughly, that the branch and bound may spend on factorising designs


class GroupBound(NamedTuple):
    """One query group of a layer with several heads.

    Attributes:
        best: where the best prompt for this group alone was found; its `lower` is the certified bound.
        witness: what `recheck_heads` needs.
    """

    best: HeadsFloor
    witness: dict[str, Any]


def heads_floor(
    statistics: Sequence[HeadStatistics],
    output: Float[Tensor, "out concatenated"] | None,
    targets: Float[Tensor, "n out"],
) -> GroupBound:
    """The certified floor of one query group, and the best masses and means found.

    Reference: theorem keys ``separate-heads-bound`` and ``several-heads-box-bound``.
    """
    heads, width = len(statistics), statistics[0].mean.shape[1]
    whole = torch.eye(heads * width, dtype=torch.float64) if output is None else output
    outputs = torch.split(whole, width, dim=1)
    separate, best, parts = _separate(statistics, whole, targets)
    witness: dict[str, Any] = {"output": output, "targets": targets, "heads": parts, "boxes": None, "upper": 0.0}
    if parts is None:
        witness["heads"] = [packed_group(item, targets[:, :0], None) for item in statistics]
    if output is not None:
        # One column per head where each reaches every output direction, else one per value dimension (and slower ones).
        n, out = targets.shape
        cost = n * heads * (heads + out) if width >= out else 10 * n * out * (heads * width) ** 2
        budget = int(_BOX_COST / (cost + 400))
        covered = all(not item.zero_query for item in statistics) and _small_errors(statistics)
        if heads <= MOST_HEADS and covered and budget > 100:
            lower, upper, place, boxes = branch_and_bound(statistics, outputs, targets, budget=min(budget, BUDGET))
            found = solved_at(statistics, outputs, targets, place)
            best = found if best is None or found.upper < best.upper else best
            if lower > separate:
                separate = lower
                witness |= {"boxes": boxes, "upper": upper}
        if best is None:
            middle = torch.full((heads,), 0.5, dtype=torch.float64)
            best = solved_at(statistics, outputs, targets, middle)
    assert best is not None
    return GroupBound(best._replace(lower=separate), witness)


def heads_certificate(bounds: Sequence[GroupBound], entries: int) -> Certificate:
    """The floor over all groups as one certificate."""
    value = (sum(bound.best.lower**2 for bound in bounds) / entries) ** 0.5 * (1 - 1e-15 * (len(bounds) + 8))
    boxed = any(bound.witness["boxes"] is not None for bound in bounds)
    return Certificate(
        claim=(
            "for every prompt of any length, the root-mean-square error of the attention layer at the last tokens over "
            f"all {entries} target entries is at least value"
        ),
        value=max(0.0, value),
        side=Side.LOWER,
        # The bound of the boxes is a theorem, but its rounding is covered by fixed allowances that are argued, not
        # carried through every operation: that is not a proof.
        evidence=Evidence.MEASURED if boxed else Evidence.PROVED,
        sample="branch and bound in float64 with fixed rounding allowances" if boxed else "",
        assumptions=(
            Assumption("examples of one group share their last token", True, "compared bit by bit"),
            Assumption(
                "the target entries are compared before any residual, norm or feed-forward", True, "by definition"
            ),
        ),
        theorem="several-heads-box-bound" if boxed else "separate-heads-bound",
        witness={"entries": entries, "groups": [bound.witness for bound in bounds]},
        checker="limits.several:recheck_heads",
    )


def _small_errors(statistics: Sequence[HeadStatistics]) -> bool:
    """True if the statistics are as exact as the account of the branch and bound says, and Z fits into float64."""
    return all(
        float(item.log_mass_error.max()) < 1e-11
        and float(item.mean_error.max()) <= 1e-11 * max(1e-300, float(item.mean.norm()))
        and float(item.log_mass.max() - item.log_mass.min()) < 200
        for item in statistics
    )


def _separate(
    statistics: Sequence[HeadStatistics], whole: Tensor, targets: Tensor
) -> tuple[float, HeadsFloor | None, list[dict[str, Any]] | None]:
    """The bound that takes the heads apart; 0 where their projections do not have full column rank."""
    singular, wanted, outside = _taken_apart(whole, targets)
    if wanted is None:
        return 0.0, None, None
    width = statistics[0].mean.shape[1]
    floors = [
        head_floor(item, block) for item, block in zip(statistics, torch.split(wanted, width, dim=1), strict=True)
    ]
    inside = math.fsum(floor.lower**2 for floor in floors)
    means = torch.stack([floor.mean for floor in floors])
    masses = torch.tensor([floor.log_mass for floor in floors], dtype=torch.float64)
    upper = math.hypot(float(singular[0]) * math.fsum(floor.upper**2 for floor in floors) ** 0.5, outside)
    parts = [
        packed_group(item, block, floor)
        for item, block, floor in zip(statistics, torch.split(wanted, width, dim=1), floors, strict=True)
    ]
    return _combined(singular, inside, outside, targets), HeadsFloor(0.0, upper, masses, means), parts


def _taken_apart(whole: Tensor, targets: Tensor) -> tuple[Tensor, Tensor | None, float]:
    """Singular values, the heads' outputs wanted (n, concatenated), and the norm of the targets out of reach."""
    basis, singular, right = torch.linalg.svd(whole, full_matrices=False)
    if whole.shape[0] < whole.shape[1] or float(singular[-1]) < 1e-8 * float(singular[0]):
        return singular, None, 0.0
    inside = targets @ basis
    return singular, (inside / singular) @ right, float((targets - inside @ basis.mT).norm())


def _combined(singular: Tensor, inside: float, outside: float, targets: Tensor) -> float:
    least = float(singular[-1]) - 1e-12 * float(singular[0])
    size = float(targets.norm())
    # u* errs by a few units of |t| / sigma_min, which |W_o| turns into condition * |t|.
    condition = float(singular[0] / singular[-1])
    return max(
        0.0, min(math.hypot(least * inside**0.5, outside) - 1e-13 * (1 + condition) * len(singular) * size, size)
    )


@rechecks
def recheck_heads(certificate: Certificate) -> bool:
    """Second path: single-head floors again in extended precision; boxes tile all masses, hold, and survive an attack.

    The attack solves the layer at 200 random masses by a least-squares solver, which has to stay above the floor.
    """
    witness, total = certificate.witness, 0.0
    for group in witness["groups"]:
        total += _checked_group(group) ** 2
    return bool(0.0 <= certificate.value <= (total / witness["entries"]) ** 0.5)


def _checked_group(group: Mapping[str, Any]) -> float:
    targets, parts = group["targets"], group["heads"]
    if group["boxes"] is None:
        width = sum(part["mean"].shape[1] for part in parts)
        whole = torch.eye(width, dtype=torch.float64) if group["output"] is None else group["output"]
        singular, wanted, outside = _taken_apart(whole, targets)
        if wanted is None:
            return 0.0
        blocks = torch.split(wanted, parts[0]["mean"].shape[1], dim=1)
        agreed = all(torch.equal(part["targets"], block) for part, block in zip(parts, blocks, strict=True))
        return (
            _combined(singular, math.fsum(checked_floor(part, None) ** 2 for part in parts), outside, targets) * agreed
        )
    statistics = [_statistics(part) for part in parts]
    outputs = torch.split(group["output"], statistics[0].mean.shape[1], dim=1)
    boxes = group["boxes"]
    volume = math.fsum((boxes[..., 1] - boxes[..., 0]).prod(dim=1).tolist())
    if abs(volume - 1) > 1e-9 or not bool((boxes[..., 1] > boxes[..., 0]).all()):
        return 0.0
    lowest = float(leaf_bounds(statistics, outputs, targets, boxes, group["upper"]).min())
    draws = torch.rand(200, len(statistics), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return min(lowest, float(errors_at(statistics, outputs, targets, draws).min()))


def _statistics(part: Mapping[str, Any]) -> HeadStatistics:
    return HeadStatistics(
        part["log_mass"], part["mean"], part["log_mass_error"], part["mean_error"], zero_query=part["zero_query"]
    )
