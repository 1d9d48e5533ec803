"""Several heads at one query token: a certified floor by branch and bound over the masses, one per head.

With the masses fixed, the best value sums are a least-squares problem, so the search is over one number z in [0, 1] per
head. Every box of them has a lower bound (`box_bound`); boxes whose bound is too low are cut in two, and descents from
their centres bring the upper end down, until both ends are close.

Reference: theorem key ``several-heads-box-bound``.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from promptreach.limits.oracle.box_bound import MassProblem, box_bounds, design, reference, shares
from promptreach.limits.oracle.statistics import HeadStatistics

MOST_HEADS = 4
"""The most heads whose masses are searched by branch and bound."""

BUDGET = 100_000
"""The number of boxes that are cut in two before the search gives back what it has."""

_GAP = 0.0095
_NEGLIGIBLE = 1e-9
_NARROW, _NARROWEST = 1e-6, 1e-15  # sides of boxes, the first relative to the masses or what they leave
_BATCH = 512


class HeadsPoint(NamedTuple):
    """Masses and means that a prompt gives several heads at one query, and the error that is left.

    Attributes:
        error: the Euclidean norm of all residuals at `lse` and `means`, as computed.
        lse: one log a per head, in nats.
        means: (heads, value_dim), one b / a per head.
    """

    error: float
    lse: Float[Tensor, " heads"]
    means: Float[Tensor, "heads value_dim"]


def branch_and_bound(
    problem: MassProblem, budget: int = BUDGET
) -> tuple[float, float, Float[Tensor, " heads"], Float[Tensor, "leaves heads 2"]]:
    """(lower, upper, z, boxes): no masses and value sums have an error below `lower`; `upper` was found at masses z.

    `boxes` (leaves, heads, 2) tile all masses; each of them has its own bound of at least `lower`.

    Stops when upper - lower <= 0.0095 upper, after `budget` cuts, when the error found is negligible next to the
    numbers it is a difference of, or when the lowest bound is that of a box too small to be cut; then the gap is what
    it is.
    """
    heads = len(problem.zeta)
    upper, best = _descend(problem, heads)
    negligible = _NEGLIGIBLE * float(problem.targets.norm() + problem.content.flatten(1).norm(dim=1).sum())
    boxes = torch.tensor([[[0.0, 1.0]] * heads], dtype=torch.float64)
    bounds = torch.zeros(1, dtype=torch.float64)
    leaves, cuts, least = [], 0, math.inf
    while True:
        whole = ~_can_be_cut(boxes).any(dim=1)
        if bool(whole.any()):
            least = min(least, float(bounds[whole].min()))
        # No cut lifts the floor above the bound of a box that stays whole.
        done = whole | (bounds >= min(least, upper * (1 - _GAP)))
        leaves.append(boxes[done])
        boxes, bounds = boxes[~done], bounds[~done]
        if not len(boxes) or cuts >= budget or upper <= negligible:
            break
        order = bounds.argsort()
        worst, rest = order[:_BATCH], order[_BATCH:]
        children = _halved(boxes[worst], problem)
        found, errors = box_bounds(problem, children, upper, upper * (1 - _GAP))
        if float(errors.min()) < upper:
            upper, best = _descend(problem, heads, children[errors.argmin()].mean(dim=1))
        cuts += len(worst)
        boxes, bounds = torch.cat([boxes[rest], children]), torch.cat([bounds[rest], found])
    lower = min([upper * (1 - _GAP), least, *bounds.tolist()])
    return lower, upper, best, torch.cat([*leaves, boxes])


def solved_at(
    statistics: Sequence[HeadStatistics], outputs: Sequence[Tensor], targets: Tensor, place: Tensor
) -> HeadsPoint:
    """The best value sums at given masses z, as log masses and means of each head."""
    lse, means = [], []
    columns, fixed = [], -targets.flatten()
    for item, output, z in zip(statistics, outputs, place.clamp(1e-12, 1 - 1e-12).tolist(), strict=True):
        log_a = reference(item) + math.log(z) - math.log1p(-z)
        share = torch.sigmoid(log_a - item.lse)[:, None]
        fixed = fixed + ((1 - share) * (item.mean @ output.mT)).flatten()
        columns.append((share[:, :, None] * output).reshape(-1, output.shape[1]))
        lse.append(log_a)
    matrix = torch.cat(columns, dim=1)
    values = torch.linalg.lstsq(matrix, -fixed[:, None], driver="gelsd").solution[:, 0]
    error = float((fixed + matrix @ values).norm())
    means = values.reshape(len(statistics), -1)
    return HeadsPoint(error, torch.tensor(lse, dtype=torch.float64), means)


def _descend(problem: MassProblem, heads: int, start: Tensor | None = None) -> tuple[float, Tensor]:
    """A good point: the best of a small grid of masses, then of ever smaller steps along the axes."""
    if start is None:
        axis = torch.tensor([0.02, 0.3, 0.7, 0.98], dtype=torch.float64)
        grid = torch.cartesian_prod(*[axis] * heads).reshape(-1, heads)
        errors = _errors(problem, grid)
        point, best = grid[errors.argmin()], float(errors.min())
    else:
        point, best = start, float(_errors(problem, start[None])[0])
    step = 0.25
    logit = torch.logit(point, eps=1e-12)
    steps = torch.cat([torch.eye(heads, dtype=torch.float64), -torch.eye(heads, dtype=torch.float64)])
    steps = torch.cat([steps, steps[:heads].sum(0, keepdim=True), -steps[:heads].sum(0, keepdim=True)])
    while step > 1e-6:
        tried = torch.sigmoid((logit + step * steps).clamp(-25.0, 25.0))
        errors = _errors(problem, tried)
        if float(errors.min()) < best * (1 - 1e-12):
            best, logit = float(errors.min()), torch.logit(tried[errors.argmin()])
            step *= 1.7
        else:
            step /= 2
    return _polished(problem, best, logit)


def _polished(problem: MassProblem, best: float, logit: Tensor) -> tuple[float, Tensor]:
    """Gauss-Newton steps on the projected residual: where the targets can be reached, they are then reached."""
    small = 1e-6
    for _ in range(12):
        moved = torch.cat([logit[None], logit + small * torch.eye(len(logit), dtype=torch.float64)])
        residuals = _residuals(problem, torch.sigmoid(moved)).flatten(1)
        slopes = ((residuals[1:] - residuals[0]) / small).mT
        step = torch.linalg.lstsq(slopes, -residuals[0][:, None], driver="gelsd").solution[:, 0].clamp(-1.0, 1.0)
        tried = (logit + step).clamp(-25.0, 25.0)
        error = float(_errors(problem, torch.sigmoid(tried)[None])[0])
        if not error < best:
            break
        best, logit = error, tried
    return best, torch.sigmoid(logit)


def _errors(problem: MassProblem, z: Float[Tensor, "boxes heads"]) -> Float[Tensor, " boxes"]:
    errors: Tensor = torch.linalg.vector_norm(_residuals(problem, z), dim=(1, 2))
    return errors


def _residuals(problem: MassProblem, z: Float[Tensor, "boxes heads"]) -> Float[Tensor, "boxes rows k"]:
    """The residuals that the best value sums leave at given masses."""
    denominators, share = shares(problem, z)
    fixed: Tensor = (share[..., None] * problem.content).sum(dim=1) - problem.targets
    matrix = design(problem, 1 / denominators)
    basis: Tensor = torch.linalg.qr(matrix / matrix.norm(dim=1, keepdim=True).clamp(min=1e-300))[0]
    return fixed - basis @ (basis.mT @ fixed)


def _can_be_cut(boxes: Float[Tensor, "boxes heads 2"]) -> Bool[Tensor, "boxes heads"]:
    """Whether each side of each box is wide enough for its parts to have better bounds than rounding allows."""
    low, high = boxes.unbind(2)
    return high - low > (_NARROW * torch.minimum(high, 1 - low)).clamp(min=_NARROWEST)


def _halved(boxes: Float[Tensor, "boxes heads 2"], problem: MassProblem) -> Float[Tensor, "twice heads 2"]:
    """Each box cut in two across the head whose masses vary most over it, at the geometric middle of that variation."""
    low, high = (shares(problem, boxes[..., end])[0] for end in (0, 1))
    ratio = torch.log(high / low)
    varied = ratio.amax(dim=2) - ratio.amin(dim=2) + 1e-3 * (boxes[..., 1] - boxes[..., 0])
    widest = varied.masked_fill(~_can_be_cut(boxes), -1.0).argmax(dim=1)
    rows = torch.arange(len(boxes))
    # Small and large masses both need their nats: cut where the ends are equally far in log odds, once they are small.
    a, b = boxes[rows, widest].unbind(1)
    middle = torch.where(b < 0.1, torch.sqrt(a.clamp(min=1e-9) * b), 0.5 * (a + b))
    middle = torch.where(a > 0.9, 1 - torch.sqrt((1 - a) * (1 - b).clamp(min=1e-9)), middle)
    middle = torch.where((middle > a) & (middle < b), middle, 0.5 * (a + b))
    left, right = boxes.clone(), boxes.clone()
    left[rows, widest, 1] = middle
    right[rows, widest, 0] = middle
    return torch.cat([left, right])
