"""The floor of one head as a certificate, and its second path: dual bounds on all intervals, in extended precision.

The bound is formed from its definition at both ends of every interval, and the intervals have to leave no mass out.
Shared with the first path are the units (`near_one`), the space that holds the range of the output projection and the
account of rounding (`reduced`).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from promptreach.certificate import Assumption, Certificate, Independence, Statement, rechecks
from promptreach.limits.oracle.floor_witness import (
    MOST_WORK,
    FloorProblem,
    floor_over,
    floor_statement,
    packed,
    rechecked,
)
from promptreach.limits.oracle.mass_search import middle
from promptreach.limits.oracle.scales import lowered
from promptreach.limits.oracle.single_head import HeadFloor, in_exact_arithmetic, near_one, reduced
from promptreach.limits.oracle.statistics import HeadStatistics
from promptreach.rounding import gamma

_LABEL = 1e-14  # exp of an interval's end is known to this share


def floor_certificate(problem: FloorProblem, targets: Tensor, floors: Sequence[HeadFloor]) -> Certificate:
    """The floor over several query groups of one head, PROVED.

    Args:
        targets: of all examples, in their order, the output bias included.
        floors: of each group.
    """
    value = floor_over([floor.lower for floor in floors], problem.entries) * (1 - gamma(len(floors) + 8))
    kept = [{"boxes": floor.boxes} for floor in floors]
    return Certificate.stated(recheck_floor, value, packed(problem, targets, kept))


def _states(witness: Mapping[str, Any]) -> Statement:
    one = Assumption("one attention head, read at the last token", True, "the weights have one head")
    return floor_statement(witness, "one attention head at the last tokens", "one-query-dual-bound", one)


@rechecks(Independence.SHARED, states=_states, extended=True)
def recheck_floor(certificate: Certificate) -> bool:
    """Second path of the floor: statistics and dual bounds once more, from the definitions, in extended precision.

    It first checks that the intervals leave no mass out. A few minutes at most, on any witness.
    """
    return rechecked(certificate.value, certificate.witness, _group_floor)


def _group_floor(problem: FloorProblem, index: int, kept: Mapping[str, Any]) -> float:
    (statistics,) = problem.statistics[index]
    return checked_floor(statistics, problem.parts[index], problem.output, kept)


def checked_floor(statistics: HeadStatistics, targets: Tensor, output: Tensor | None, kept: Mapping[str, Any]) -> float:
    """The floor of one group as the second path finds it; 0 when the intervals kept leave a mass out."""
    boxes = kept["boxes"]
    if not isinstance(boxes, Tensor) or boxes.dtype != torch.float64 or boxes.ndim != 2 or boxes.shape[1] != 2:
        return 0.0
    if len(boxes) * targets.numel() > MOST_WORK or not _covers(boxes, statistics):
        return 0.0
    (statistics,), targets, output, power, _ = near_one([statistics], targets, output)
    problem = reduced(statistics, targets, output)
    masses = statistics.lse - middle(statistics.lse)
    mass, content, wanted = (item.numpy().astype(np.longdouble) for item in (masses, problem.content, problem.targets))
    mass = np.exp(mass)[:, None]
    rise = mass * (content - wanted)
    lowest = [_dual_bound(mass, rise, wanted, low, high) for low, high in boxes.tolist()]
    if statistics.zero_query:
        lowest.append(np.sqrt(((content - wanted) ** 2).sum()))
    return lowered(in_exact_arithmetic(float(min(lowest)), problem, statistics, targets), power)


def _covers(boxes: Tensor, statistics: HeadStatistics) -> bool:
    """True if the intervals of log a leave nothing out: of [0, infinity], or of the whole numbers from 1 on."""
    if not len(boxes) or boxes.isnan().any() or not bool((boxes[:, 0] <= boxes[:, 1]).all()):
        return False
    low, high = boxes[boxes[:, 0].argsort()].unbind(1)
    reached = high.cummax(dim=0)[0]
    if reached[-1] != torch.inf:
        return False
    joined = low[1:] <= reached[:-1]
    if not statistics.zero_query:
        return bool(low[0] == -torch.inf and joined.all())
    # The next whole number behind an interval may not lie before the one that follows; either end may be this far off.
    ends, begins = (item.numpy().astype(np.longdouble) + middle(statistics.lse) for item in (reached[:-1], low))
    next_one = np.floor(np.exp(ends) * (1 - _LABEL)) + 1
    starts = np.exp(begins) * (1 + _LABEL)
    return bool(starts[0] <= 1 and (joined.numpy() | (starts[1:] <= next_one)).all())


def _dual_bound(mass: Any, rise: Any, targets: Any, low: float, high: float) -> Any:
    """The smaller of the two ends' bounds, with the residual at the middle as test matrix."""
    centre = high - 1.0 if low == -np.inf else low + 1.0 if high == np.inf else 0.5 * (low + high)
    centre = 0.0 if np.isnan(centre) else centre
    exp = np.exp(np.longdouble(centre))
    weights = (mass + exp) ** -2
    # The value sum cancels because `test` sums to 0; taking weighted means off keeps that true after rounding too.
    # Twice: a row that outweighs all others has to become 0, or what is left of it counts for much at the other end.
    for _ in range(2):
        rise, targets = (item - (weights * item).sum(0) / weights.sum() for item in (rise, targets))
    test = weights * (rise - exp * targets)
    squares, along, across = (test**2).sum(1), (test * rise).sum(), (test * targets).sum()
    values = []
    for point in (low, high):
        # (1, a) or (1/a, 1): either end may be infinite.
        a, b = (np.exp(-np.longdouble(point)), 1) if point > 0 else (1, np.exp(np.longdouble(point)))
        size = np.sqrt(((a * mass + b)[:, 0] ** 2 * squares).sum())
        values.append((a * along - b * across) / size if size > 0 else np.longdouble(0))
    return max(np.longdouble(0), min(values))
