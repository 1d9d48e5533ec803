"""Several heads at one query token: a certified floor by branch and bound over the masses, one per head.

The output sum_h W_h (N_i^h + b_h) / (Z_i^h + a_h) is linear in the value sums b_h once the masses a_h are fixed. So the
problem is a least-squares problem whose design matrix moves with H numbers. Write a_h = Z_ref z / (1 - z) with z in
[0, 1]: both ends are ordinary points, the content's share is p_i = zeta_i (1 - z) / D_i and the column of head h is
w_i = 1 / D_i, with zeta_i = Z_i / Z_ref and D_i = zeta_i (1 - z) + z linear in z.

**Bound on a box.** At its centre let X = Q R be the design, y the fixed part, g0 = -Q^T y and r0 = y + Q g0 the
residual. Anywhere in the box the columns are multiplied row by row by 1 + e_i with |e_i| <= e, in exact arithmetic, so
the residual there is r = y + D + (Q + E) g with known bounds on D and E. For the best g, r is orthogonal to Q + E, so
|g - g0| <= k = (eta U + |D| + eta |g0|) / (1 - eta) with eta >= |E| and U an error already reached (a box where r is
larger needs no bound). Then |r| >= <r0, r> / |r0|, whose first-order part is a gradient and whose rest is quadratic in
the box: around a minimum the bound loses to second order only.

Where all of the attention of two heads goes to the prompt their columns become equal, and no bound of this kind holds.
There w = 1 - (1 - z) q with q_i = (zeta_i - 1) / D_i, so the columns 1, q^1, ..., q^H span more than w^1, ..., w^H and
stay apart: the same bound on this larger design is a valid floor too, if a lower one.

Rounding: every bound is lowered by 1e-9 of the size of targets and content, and by 1e-10 of the size that the columns'
shares of g have anywhere in the box. The sums here err by less than 1e-12 of either, and so do the statistics; where
their own account says otherwise, the search refuses.

Reference: theorem key ``several-heads-box-bound``.
"""

import heapq
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from promptreach.limits.statistics import HeadStatistics

MOST_HEADS = 4
"""The most heads whose masses are searched by branch and bound."""

BUDGET = 100_000
"""How many boxes are looked at before the search gives back what it has."""

_ROUNDING = 1e-9
_BATCH = 1024


class HeadsFloor(NamedTuple):
    """Several heads at one query.

    Attributes:
        lower: certified lower bound of the Euclidean norm of all residuals.
        upper: the norm reached at `log_mass` and `means`, as computed.
        log_mass: one log a per head, in nats.
        means: (heads, value_dim), one b / a per head.
    """

    lower: float
    upper: float
    log_mass: Float[Tensor, " heads"]
    means: Float[Tensor, "heads value_dim"]


class _Problem(NamedTuple):
    """One least-squares problem for each vector z of masses; rows are examples, or examples times outputs."""

    zeta: Tensor  # (H, rows)
    content: Tensor  # (H, rows, k): the head's output without a prompt, behind its projection
    blocks: tuple[Tensor, ...]  # per head (rows, columns): what the column of shares is multiplied into
    targets: Tensor  # (rows, k)
    ones: Tensor  # (rows, columns): the blocks of all heads together, orthonormalised


def branch_and_bound(
    statistics: Sequence[HeadStatistics],
    outputs: Sequence[Float[Tensor, "out value_dim"]],
    targets: Float[Tensor, "n out"],
    gap: float = 0.008,
    budget: int = BUDGET,
) -> tuple[float, float, Float[Tensor, " heads"], Float[Tensor, "leaves heads 2"]]:
    """(lower, upper, z, boxes): no masses and value sums have an error below `lower`; `upper` was found at masses z.

    `boxes` (leaves, H, 2) tile all masses; each of them has its own bound of at least `lower`.

    Stops when upper - lower <= gap * upper or after `budget` boxes; then the gap is what it is.
    """
    problem = _problem(statistics, outputs, targets)
    heads = len(statistics)
    upper, best = _descend(problem, heads)
    scale = float(targets.norm()) + float(sum(item.norm() for item in problem.content))
    boxes = torch.stack([torch.zeros(1, heads, dtype=torch.float64), torch.ones(1, heads, dtype=torch.float64)], dim=2)
    open_boxes: list[tuple[float, int, Tensor]] = [(0.0, 0, boxes[0])]
    looked, lower = 0, 0.0
    leaves: list[Tensor] = []
    while open_boxes:
        lower = open_boxes[0][0]
        if lower >= upper * (1 - gap) or looked >= budget or upper <= _ROUNDING * scale:
            break
        batch = [heapq.heappop(open_boxes)[2] for _ in range(min(_BATCH // 2, len(open_boxes)))]
        children = _halved(torch.stack(batch), problem)
        bounds, errors = _bounds(problem, children, upper)
        if float(errors.min()) < upper:
            upper, best = _descend(problem, heads, children[errors.argmin()].mean(dim=1))
        leaves.append(children[bounds >= upper * (1 - gap)])
        for index in torch.nonzero(bounds < upper * (1 - gap))[:, 0].tolist():
            looked += 1
            heapq.heappush(open_boxes, (float(bounds[index]), looked, children[index]))
        if not open_boxes:
            lower = upper * (1 - gap)
    leaves += [box[None] for _, _, box in open_boxes]
    return max(0.0, min(lower, upper * (1 - gap))), upper, best, torch.cat(leaves)


def leaf_bounds(
    statistics: Sequence[HeadStatistics], outputs: Sequence[Tensor], targets: Tensor, boxes: Tensor, upper: float
) -> Float[Tensor, " leaves"]:
    """The bound of every box, for a partition that is already there."""
    problem = _problem(statistics, outputs, targets)
    return torch.cat([_bounds(problem, part, upper)[0] for part in torch.split(boxes, _BATCH)])


def errors_at(
    statistics: Sequence[HeadStatistics], outputs: Sequence[Tensor], targets: Tensor, places: Float[Tensor, "k heads"]
) -> Float[Tensor, " k"]:
    """The least error over the value sums at given masses z, by a least-squares solver."""
    return torch.tensor([solved_at(statistics, outputs, targets, place).upper for place in places], dtype=torch.float64)


def solved_at(
    statistics: Sequence[HeadStatistics], outputs: Sequence[Tensor], targets: Tensor, place: Tensor
) -> HeadsFloor:
    """The best value sums at given masses z, as log masses and means of each head."""
    log_mass, means = [], []
    columns, fixed = [], -targets.flatten()
    for item, output, z in zip(statistics, outputs, place.clamp(1e-12, 1 - 1e-12).tolist(), strict=True):
        log_a = _reference(item) + math.log(z) - math.log1p(-z)
        share = torch.sigmoid(log_a - item.log_mass)[:, None]
        fixed = fixed + ((1 - share) * (item.mean @ output.mT)).flatten()
        columns.append((share[:, :, None] * output).reshape(-1, output.shape[1]))
        log_mass.append(log_a)
    design = torch.cat(columns, dim=1)
    values = torch.linalg.lstsq(design, -fixed[:, None], driver="gelsd").solution[:, 0]
    error = float((fixed + design @ values).norm())
    means = values.reshape(len(statistics), -1)
    return HeadsFloor(0.0, error, torch.tensor(log_mass, dtype=torch.float64), means)


def _reference(item: HeadStatistics) -> float:
    return 0.5 * float(item.log_mass.max() + item.log_mass.min())


def _problem(statistics: Sequence[HeadStatistics], outputs: Sequence[Tensor], targets: Tensor) -> _Problem:
    n, out = targets.shape
    zeta = torch.stack([torch.exp(item.log_mass - _reference(item)) for item in statistics])
    content = torch.stack([item.mean @ output.mT for item, output in zip(statistics, outputs, strict=True)])
    bases = [_range(output) for output in outputs]
    if all(basis.shape[1] == out for basis in bases):
        # Every head reaches every output direction: one column per head, `out` right-hand sides.
        one = torch.ones(n, 1, dtype=torch.float64)
        return _Problem(zeta, content, (one,) * len(bases), targets, one / n**0.5)
    blocks = tuple(basis.repeat(n, 1) for basis in bases)
    joint = _range(torch.cat(bases, dim=1)).repeat(n, 1) / n**0.5
    return _Problem(
        zeta.repeat_interleave(out, dim=1), content.reshape(len(bases), -1, 1), blocks, targets.reshape(-1, 1), joint
    )


def _range(matrix: Tensor) -> Tensor:
    """An orthonormal basis of the columns' span; directions that are only numerically null stay, to be on the safe
    side."""
    basis: Tensor = torch.linalg.svd(matrix, full_matrices=False)[0]
    return basis


def _shares(problem: _Problem, z: Float[Tensor, "boxes H"]) -> tuple[Tensor, Tensor]:
    """D and the content's share p, (boxes, H, rows)."""
    denominators = problem.zeta * (1 - z[..., None]) + z[..., None]
    return denominators, problem.zeta * (1 - z[..., None]) / denominators


def _design(problem: _Problem, columns: Float[Tensor, "boxes H rows"], extended: bool) -> Tensor:
    """(boxes, rows, columns): every head's column times its block, and the common block in front when extended."""
    parts = [columns[:, h, :, None] * block for h, block in enumerate(problem.blocks)]
    if extended:
        parts = [problem.ones.expand(len(columns), -1, -1), *parts]
    return torch.cat(parts, dim=2)


def _descend(problem: _Problem, heads: int, start: Tensor | None = None) -> tuple[float, Tensor]:
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


def _polished(problem: _Problem, best: float, logit: Tensor) -> tuple[float, Tensor]:
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


def _errors(problem: _Problem, z: Float[Tensor, "boxes H"]) -> Float[Tensor, " boxes"]:
    errors: Tensor = torch.linalg.vector_norm(_residuals(problem, z), dim=(1, 2))
    return errors


def _residuals(problem: _Problem, z: Float[Tensor, "boxes H"]) -> Float[Tensor, "boxes rows k"]:
    """What the best value sums leave at given masses."""
    denominators, share = _shares(problem, z)
    fixed: Tensor = (share[..., None] * problem.content).sum(dim=1) - problem.targets
    design = _design(problem, 1 / denominators, extended=False)
    basis: Tensor = torch.linalg.qr(design / design.norm(dim=1, keepdim=True).clamp(min=1e-300))[0]
    return fixed - basis @ (basis.mT @ fixed)


def _halved(boxes: Float[Tensor, "boxes H 2"], problem: _Problem) -> Float[Tensor, "twice H 2"]:
    """Each box cut in two across the head whose masses vary most over it, at the geometric middle of that variation."""
    low, high = (_shares(problem, boxes[..., end])[0] for end in (0, 1))
    ratio = torch.log(high / low)
    widest = (ratio.amax(dim=2) - ratio.amin(dim=2) + 1e-3 * (boxes[..., 1] - boxes[..., 0])).argmax(dim=1)
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


def _bounds(problem: _Problem, boxes: Float[Tensor, "boxes H 2"], upper: float) -> tuple[Tensor, Tensor]:
    """A lower bound (up to `upper`) on each box, and the error at its centre."""
    plain, centre = _box_bound(problem, boxes, upper, extended=False)
    larger, _ = _box_bound(problem, boxes, upper, extended=True)
    scale = float(problem.targets.norm()) + float(sum(item.norm() for item in problem.content))
    return (torch.maximum(plain, larger) - _ROUNDING * scale).clamp(min=0.0, max=upper), centre


def _box_bound(problem: _Problem, boxes: Tensor, upper: float, extended: bool) -> tuple[Tensor, Tensor]:
    """The bound of the module's docstring, for a batch of boxes."""
    centres, halves = boxes.mean(dim=2), 0.5 * (boxes[..., 1] - boxes[..., 0])
    here, share = _shares(problem, centres)
    least = torch.minimum(*(_shares(problem, boxes[..., end])[0] for end in (0, 1)))
    slope = 1 - problem.zeta  # D'
    columns = -slope / here if extended else 1 / here
    design = _design(problem, columns, extended)
    design = design / design.norm(dim=1, keepdim=True).clamp(min=1e-300)
    basis, triangle = torch.linalg.qr(design)
    fixed = (share[..., None] * problem.content).sum(dim=1) - problem.targets
    start = -basis.mT @ fixed
    residual = fixed + basis @ start
    size = residual.flatten(1).norm(dim=1)
    inverse = torch.linalg.solve_triangular(triangle, torch.eye(triangle.shape[-1], dtype=torch.float64), upper=True)
    # Content: p(z) - p(c) = -(z - c) zeta / (D(c) D(z)), and its part beyond the tangent.
    first = (problem.zeta / (here * least))[..., None] * problem.content
    second = (problem.zeta * slope.abs() / (here * here * least))[..., None] * problem.content
    moved = (halves * first.flatten(2).norm(dim=2)).sum(1)
    curved = (halves.square() * second.flatten(2).norm(dim=2)).sum(1)
    tangent = -(problem.zeta / (here * here))[..., None] * problem.content
    gradient = torch.einsum("brk,bhrk->bh", residual, tangent)
    turned, bent, total, skew = (torch.zeros_like(item) for item in (size, size, size, halves))
    offset = problem.ones.shape[1] if extended else 0
    gradients = []
    for h, block in enumerate(problem.blocks):
        part = slice(offset, offset + block.shape[1])
        offset += block.shape[1]
        piece = design[:, :, part] @ inverse[:, part]
        weight = piece.flatten(1).norm(dim=1)
        relative = (slope[h].abs() / least[:, h]).amax(dim=1)
        total = total + weight
        turned = turned + halves[:, h] * relative * weight
        bent = bent + halves[:, h].square() * (slope[h].square() / (here[:, h] * least[:, h])).amax(dim=1) * weight
        # The tangent of each row of the design is -D'/D of the row itself.
        against = piece.mT @ (-(slope[h] / here[:, h])[..., None] * residual)
        gradients.append((against * start).flatten(1).sum(1))
        skew[:, h] = against.flatten(1).norm(dim=1)
    gradient = gradient + torch.stack(gradients, dim=1)
    norm = start.flatten(1).norm(dim=1)
    far = (turned * upper + moved + turned * norm) / (1 - turned)
    lost = (halves * gradient.abs()).sum(1) + (halves * skew).sum(1) * far
    bound = size - lost / size.clamp(min=1e-300) - (bent + 1e-10 * total) * (norm + far) - curved
    return torch.where(turned < 1, bound, torch.zeros_like(bound)).nan_to_num(0.0, 0.0, 0.0), size
