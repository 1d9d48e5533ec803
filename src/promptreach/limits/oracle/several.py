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

from promptreach.certificate import Certificate, Independence, Statement, rechecks
from promptreach.errors import raise_if_any
from promptreach.limits.oracle.box_bound import mass_problem
from promptreach.limits.oracle.box_check import bounded, tiles
from promptreach.limits.oracle.branch_and_bound import BUDGET, MOST_HEADS, HeadsPoint, branch_and_bound, solved_at
from promptreach.limits.oracle.checks import spread_faults
from promptreach.limits.oracle.floor_witness import (
    MOST_WORK,
    FloorProblem,
    floor_over,
    floor_statement,
    packed,
    rechecked,
)
from promptreach.limits.oracle.scales import lowered, times_power
from promptreach.limits.oracle.separate_heads import checked_separate_floor, separate_floor
from promptreach.limits.oracle.single_head import near_one
from promptreach.limits.oracle.statistics import HeadStatistics
from promptreach.rounding import gamma
from promptreach.witness import number, tensor

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
    lower, best, witness = separate_floor(scaled, whole, targets)
    witness |= {"boxes": None, "lower": 0.0, "upper": 0.0}
    if output is not None:
        # One column per head where each reaches every output direction, else one per value dimension (and slower ones).
        n, out = targets.shape
        cost = n * heads * (heads + out) if width >= out else 10 * n * out * (heads * width) ** 2
        budget = int(_BOX_COST / (cost + 400))
        free = heads <= MOST_HEADS and not any(item.zero_query for item in statistics)
        problem = mass_problem(scaled, outputs, targets) if free and budget > 100 else None
        if problem is not None:
            searched, upper, place, boxes = branch_and_bound(problem, budget=min(budget, BUDGET))
            found = solved_at(scaled, outputs, targets, place)
            best = found if best is None or found.error < best.error else best
            if searched > lower:
                lower = searched
                witness |= {"boxes": boxes, "lower": lower, "upper": upper, "wanted": None, "intervals": None}
        if best is None:
            middle = torch.full((heads,), 0.5, dtype=torch.float64)
            best = solved_at(scaled, outputs, targets, middle)
    assert best is not None
    error = float(times_power(torch.tensor(best.error, dtype=torch.float64), power))
    best = HeadsPoint(error, best.lse, times_power(best.means, value_power))
    return GroupBound(lowered(lower, power), best, witness)


def heads_certificate(problem: FloorProblem, targets: Tensor, bounds: Sequence[GroupBound]) -> Certificate:
    """The floor over all groups as one certificate, PROVED.

    Args:
        targets: of all examples, in their order, the output bias included.
    """
    value = floor_over([bound.lower for bound in bounds], problem.entries) * (1 - gamma(len(bounds) + 8))
    return Certificate.stated(recheck_heads, value, packed(problem, targets, [bound.witness for bound in bounds]))


def _states(witness: Mapping[str, Any]) -> Statement:
    boxed = any(group["boxes"] is not None for group in witness["groups"])
    theorem = "several-heads-box-bound" if boxed else "separate-heads-bound"
    return floor_statement(witness, "the attention layer at the last tokens", theorem)


@rechecks(Independence.SHARED, states=_states, quick=0, extended=True)
def recheck_heads(certificate: Certificate) -> bool:
    """Second path, in extended precision: single-head floors again; or that the boxes leave no masses out, and hold.

    Before that the statistics once more, from weights and sequences. A few minutes at most, on any witness.
    """
    return rechecked(certificate.value, certificate.witness, _checked_group)


def _checked_group(problem: FloorProblem, index: int, kept: Mapping[str, Any]) -> float:
    heads, width = len(problem.statistics[index]), problem.statistics[index][0].mean.shape[1]
    statistics, targets, output, power, _ = near_one(problem.statistics[index], problem.parts[index], problem.output)
    if kept["boxes"] is None:
        whole = torch.eye(heads * width, dtype=torch.float64) if output is None else output
        return lowered(checked_separate_floor(statistics, whole, targets, kept), power)
    boxes, lower, upper = tensor(kept, "boxes", None, heads, 2), number(kept, "lower", 0), number(kept, "upper", 0)
    work = len(boxes) * targets.numel() * heads * (heads * width + targets.shape[1])
    if output is None or heads > MOST_HEADS or work > MOST_WORK or any(item.zero_query for item in statistics):
        return 0.0
    outputs = torch.split(output, width, dim=1)
    return lowered(lower, power) if tiles(boxes) and bounded(statistics, outputs, targets, boxes, lower, upper) else 0.0
