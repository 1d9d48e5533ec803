"""The floor of a layer with several heads: whichever of the bounds is largest, as one certificate.

* **Separate heads.** Where the heads' output projections together have full column rank (`separate_heads`).
* **Boxes.** Up to four heads: branch and bound over the masses (`branch_and_bound`, `box_bound`).

Both carry their rounding, so both are proofs. Both treat the masses of heads as free, also of heads that share keys and
values: a lower bound in any case.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from promptreach.certificate import Certificate, Independence, rechecks
from promptreach.limits.oracle.box_bound import mass_problem
from promptreach.limits.oracle.box_check import bounded, tiles
from promptreach.limits.oracle.branch_and_bound import BUDGET, MOST_HEADS, HeadsPoint, branch_and_bound, solved_at
from promptreach.limits.oracle.separate_heads import checked_separate_floor, separate_floor
from promptreach.limits.oracle.single_head import groups_certificate, packed_group, rechecked, unpacked_statistics
from promptreach.limits.oracle.statistics import HeadStatistics

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
    raise_if_any([fault for item in statistics for fault in spread_faults("sequences", item.lse)])
    heads, width = len(statistics), statistics[0].mean.shape[1]
    scaled, targets, output, power, value_power = near_one(statistics, targets, output)
    whole = torch.eye(heads * width, dtype=torch.float64) if output is None else output
    outputs = torch.split(whole, width, dim=1)
    lower, best, intervals = separate_floor(scaled, whole, targets)
    packed = [packed_group(item, part) for item, part in zip(statistics, intervals or [None] * heads, strict=True)]
    witness: dict[str, Any] = {"heads": packed, "boxes": None, "lower": 0.0, "upper": 0.0}
    if output is not None:
        # One column per head where each reaches every output direction, else one per value dimension (and slower ones).
        n, out = targets.shape
        cost = n * heads * (heads + out) if width >= out else 10 * n * out * (heads * width) ** 2
        budget = int(_BOX_COST / (cost + 400))
        free = heads <= MOST_HEADS and not any(item.zero_query for item in statistics)
        problem = mass_problem(statistics, outputs, targets) if free and budget > 100 else None
        if problem is not None:
            searched, upper, place, boxes = branch_and_bound(problem, budget=min(budget, BUDGET))
            found = solved_at(statistics, outputs, targets, place)
            best = found if best is None or found.error < best.error else best
            if searched > lower:
                lower = searched
                witness |= {"boxes": boxes, "lower": lower, "upper": upper}
        if best is None:
            middle = torch.full((heads,), 0.5, dtype=torch.float64)
            best = solved_at(statistics, outputs, targets, middle)
    assert best is not None
    return GroupBound(lower, best, witness)


def heads_certificate(bounds: Sequence[GroupBound], entries: int) -> Certificate:
    """The floor over all groups as one certificate, PROVED."""
    boxed = any(bound.witness["boxes"] is not None for bound in bounds)
    return groups_certificate(
        [bound.lower for bound in bounds],
        entries,
        "the attention layer at the last tokens",
        (),
        theorem="several-heads-box-bound" if boxed else "separate-heads-bound",
        witness={"entries": entries, "groups": [bound.witness for bound in bounds]},
        checker="limits.oracle.several:recheck_heads",
    )


@rechecks(Independence.SHARED, quick=0, extended=True)
def recheck_heads(certificate: Certificate) -> bool:
    """Second path, in extended precision: single-head floors again; or that the boxes leave no masses out, and hold."""
    return rechecked(certificate, _checked_group)


def _checked_group(group: Mapping[str, Any]) -> float:
    targets, parts = group["targets"], group["heads"]
    statistics = [unpacked_statistics(part) for part in parts]
    width = statistics[0].mean.shape[1]
    if group["boxes"] is None:
        whole = torch.eye(len(parts) * width, dtype=torch.float64) if group["output"] is None else group["output"]
        return checked_separate_floor(parts, whole, targets)
    outputs = torch.split(group["output"], width, dim=1)
    sure = tiles(group["boxes"]) and bounded(
        statistics, outputs, targets, group["boxes"], group["lower"], group["upper"]
    )
    return max(0.0, float(group["lower"])) if sure else 0.0
