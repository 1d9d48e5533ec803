"""A lower bound on the error of several heads for every vector of masses in a box, with its rounding carried.

The output sum_h W_h (N_i^h + b_h) / (Z_i^h + a_h) is linear in the value sums b_h once the masses a_h are fixed: a
least-squares problem whose design matrix moves with H numbers. Write a_h = Z_ref z / (1 - z) with z in [0, 1]: both
ends are ordinary points, the content's share is p_i = zeta_i (1 - z) / D_i and the column of head h is w_i = 1 / D_i,
with zeta_i = Z_i / Z_ref and D_i = zeta_i (1 - z) + z linear in z.

**The bound.** At the box's centre let X be the design and y the fixed part, both as computed. Let T be any matrix that
makes P = X T nearly orthonormal, g0 any coefficients, r0 any vector; here T = R^-1 of a QR factorisation, g0 = -P^T y
and r0 = y + P g0, each as computed. Anywhere in the box the true residual is r = y + d + (P + E) g with |d| <= D and
|E| <= eta. For the best g, r is orthogonal to P + E, so with P^T P = I + F, p^2 = 1 + |F| and U an error already
reached (a box where r is larger needs no bound)

    |g - g0| <= k = (|P^T (y + P g0)| + p D + p eta |g0| + eta U) / (1 - |F| - p eta),

and then |r| >= <r0, r> / |r0|, whose first-order part is a gradient and whose rest is quadratic in the box: around a
minimum the bound loses to second order only. The bound holds for whatever T, g0 and r0 are: that they are inexact only
makes it smaller.

**What moves.** In exact arithmetic the rows of the columns are multiplied by 1 + e_i = D_i(centre) / D_i(z).

**What rounds.** Each number below comes from sums of products with fewer than `roundings` roundings in all, and the
only differences in it are 1 - zeta, 1 - z, the half widths and y. So, y aside, a product such as X T is within
gamma(roundings) of the product of absolute values, and what multiplies it up (norms, slopes) is within a factor of
1 + gamma(roundings). Errors of products with X and T are bounded by S = sum_j |X_j| |T_j| over the columns of X and the
rows of T, which `slack` has four times. The masses are off by a relative `mass_error`, which multiplies the rows once
more; what the content is off by, and the rounding of y, is `fixed_error`. There is no underflow that counts:
`mass_problem` keeps to numbers between 1e-100 and 1e100.

**Where all of the attention of two heads goes to the prompt** their columns become equal, and no bound of this kind
holds. There w = 1 - (1 - z) q with q_i = (zeta_i - 1) / D_i, so the columns 1, q^1, ..., q^H span more than
w^1, ..., w^H and stay apart: the same bound on this extended design is a valid floor too, if a lower one.

Reference: theorem key ``several-heads-box-bound``.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from promptreach.limits.oracle.single_head import mass_error
from promptreach.limits.oracle.statistics import HeadStatistics
from promptreach.rounding import gamma

MOST_NATS = 200.0
"""The widest spread of one head's log masses for which boxes are bounded."""


class MassProblem(NamedTuple):
    """One least-squares problem for each vector z of masses; rows are examples, or examples times outputs.

    Attributes:
        zeta: (heads, rows), Z_i / Z_ref.
        content: (heads, rows, k), the head's output without a prompt, behind its projection.
        blocks: per head (rows, columns): what the column of shares is multiplied into.
        targets: (rows, k).
        common: (rows, columns), whose span contains that of every block.
        mass_error: how far any zeta may be off, relative to it.
        fixed_error: how far the fixed part may be off at any z, as a norm over everything.
    """

    zeta: Float[Tensor, "heads rows"]
    content: Float[Tensor, "heads rows k"]
    blocks: tuple[Tensor, ...]
    targets: Float[Tensor, "rows k"]
    common: Float[Tensor, "rows columns"]
    mass_error: float
    fixed_error: float

    @property
    def roundings(self) -> int:
        """More roundings than stand behind any one number here."""
        columns = self.common.shape[1] + sum(block.shape[1] for block in self.blocks)
        return 4 * (self.targets.numel() + columns + 16)


def mass_problem(
    statistics: Sequence[HeadStatistics], outputs: Sequence[Float[Tensor, "out value_dim"]], targets: Tensor
) -> MassProblem | None:
    """The problem behind `box_bounds`, or None where its numbers would leave the range in which rounding is relative.

    A head's block is its own slice of the output projection where that has full column rank, and the whole output space
    otherwise. That gives such a head more than it has, so what holds for the problem holds for the layer; where every
    head has the whole space, one column each is enough, with one right-hand side per output.
    """
    n, out = targets.shape
    zeta = torch.stack([torch.exp(item.lse - reference(item)) for item in statistics])
    content = torch.stack([item.mean @ output.mT for item, output in zip(statistics, outputs, strict=True)])
    scale = float(targets.norm() + content.flatten(1).norm(dim=1).sum())
    spread = max(float(item.lse.max() - item.lse.min()) for item in statistics)
    if not (1e-100 < scale < 1e100 and spread < MOST_NATS):
        return None
    bases, joint = _spans(outputs)
    off = max(mass_error(item) for item in statistics)
    roundings = gamma(4 * (targets.numel() + 16))
    fixed = (off + roundings) * scale
    for item, output in zip(statistics, outputs, strict=True):
        stretch = float(output.norm()) * (1 + roundings)
        fixed += stretch * float(item.mean_error.norm() + gamma(output.shape[1] + 4) * item.mean.norm())
    fixed *= 1 + gamma(targets.numel() + 64)
    if joint is None:
        one = torch.ones(n, 1, dtype=torch.float64)
        return MassProblem(zeta, content, (one,) * len(outputs), targets, one, off, fixed)
    content, zeta = content.reshape(len(outputs), -1, 1), zeta.repeat_interleave(out, dim=1)
    blocks = tuple(basis.repeat(n, 1) for basis in bases)
    return MassProblem(zeta, content, blocks, targets.reshape(-1, 1), joint.repeat(n, 1), off, fixed)


def _spans(outputs: Sequence[Float[Tensor, "out value_dim"]]) -> tuple[list[Tensor], Tensor | None]:
    """For each head a matrix whose span contains that of its slice exactly, and one that contains all of them.

    None for the latter when every head has the whole output space. Ranks only choose between matrices that all qualify,
    so it does not matter that they are numerical.
    """
    whole = torch.eye(len(outputs[0]), dtype=torch.float64)
    bases = [_narrow(output[:, output.any(dim=0)], whole) for output in outputs]
    return bases, None if all(basis is whole for basis in bases) else _narrow(torch.cat(bases, dim=1), whole)


def _narrow(matrix: Tensor, whole: Tensor) -> Tensor:
    """The matrix itself where it has full column rank and leaves a part of the space out, else the whole space."""
    narrow = matrix.shape[1] < len(matrix) and int(torch.linalg.matrix_rank(matrix)) == matrix.shape[1]
    return matrix if narrow else whole


def reference(statistics: HeadStatistics) -> float:
    """log Z_ref of one head."""
    return 0.5 * float(statistics.lse.max() + statistics.lse.min())


def shares(problem: MassProblem, z: Float[Tensor, "boxes heads"]) -> tuple[Tensor, Tensor]:
    """D and the content's share p, (boxes, heads, rows)."""
    weighted = problem.zeta * (1 - z[..., None])
    denominators = weighted + z[..., None]
    return denominators, weighted / denominators


def design(problem: MassProblem, columns: Float[Tensor, "boxes heads rows"], extended: bool = False) -> Tensor:
    """(boxes, rows, columns): every head's column times its block, and the common block in front when extended."""
    parts = [columns[:, h, :, None] * block for h, block in enumerate(problem.blocks)]
    if extended:
        parts = [problem.common.expand(len(columns), -1, -1), *parts]
    return torch.cat(parts, dim=2)


def frame(problem: MassProblem, here: Float[Tensor, "boxes heads rows"], extended: bool) -> tuple[Tensor, Tensor]:
    """The design X where D is `here`, and T with X T nearly orthonormal; T is not finite for dependent columns."""
    matrix = design(problem, (1 - problem.zeta) / here if extended else 1 / here, extended)
    columns = matrix.shape[2]
    if matrix.shape[1] < columns:
        return matrix, matrix.new_full((len(matrix), columns, columns), torch.nan)
    triangle = torch.linalg.qr(matrix, mode="r")[1]
    return matrix, torch.linalg.solve_triangular(triangle, torch.eye(columns, dtype=torch.float64), upper=True)


def box_bounds(
    problem: MassProblem, boxes: Float[Tensor, "boxes heads 2"], upper: float, enough: float
) -> tuple[Float[Tensor, " boxes"], Float[Tensor, " boxes"]]:
    """A lower bound on each box, at most `upper`, and the error at its centre as computed.

    For all masses in the box and all value sums, the norm of the residuals is at least the bound. The extended design
    is only tried where the plain one gives less than `enough`.
    """
    bounds, centres = _bounds(problem, boxes, upper, extended=False)
    short = bounds < enough
    if bool(short.any()):
        larger, _ = _bounds(problem, boxes[short], upper, extended=True)
        bounds[short] = torch.maximum(bounds[short], larger)
    return bounds, centres


def _bounds(problem: MassProblem, boxes: Tensor, upper: float, extended: bool) -> tuple[Tensor, Tensor]:
    """The bound of the module's docstring, from one of the two designs."""
    unit = gamma(problem.roundings)
    low, high = boxes.unbind(2)
    centres = 0.5 * (low + high)
    halves = torch.maximum(high - centres, centres - low) * (1 + gamma(1))
    here, share = shares(problem, centres)
    least = torch.minimum(shares(problem, low)[0], shares(problem, high)[0])
    slope = 1 - problem.zeta  # the derivative of D

    matrix, inverse = frame(problem, here, extended)
    rows = inverse.norm(dim=2)
    rounded = (matrix.norm(dim=1) * rows).sum(dim=1)
    # A relative mass error m moves 1 / D by as much, and (zeta - 1) / D by at most m (1 + m) zeta / D^2.
    massive = design(problem, problem.zeta / here.square()) if extended else matrix
    massive = (massive.norm(dim=1) * rows[:, -massive.shape[2] :]).sum(dim=1)
    # Over the box D shrinks by a factor of at most 2, and is squared here.
    slack = 4 * (1 + unit) * (unit * rounded + problem.mass_error * (1 + problem.mass_error) * massive)

    fixed = (share[..., None] * problem.content).sum(dim=1) - problem.targets
    basis = matrix @ inverse
    start = -basis.mT @ fixed
    residual = fixed + basis @ start
    size, norm, length = (item.flatten(1).norm(dim=1) for item in (residual, start, basis))
    formed = unit * (fixed.flatten(1).norm(dim=1) + length * norm)
    left = (basis.mT @ residual).flatten(1).norm(dim=1) + unit * length * size
    skewed = (basis.mT @ basis - torch.eye(basis.shape[2], dtype=basis.dtype)).flatten(1).norm(dim=1)
    skewed = (skewed + unit * length.square()) * (1 + unit)
    stretch = (1 + skewed).sqrt() * (1 + unit)

    # Content: p(z) - p(c) = -(z - c) zeta / (D(c) D(z)), and its part beyond the tangent.
    heights = problem.content.norm(dim=2)
    first = problem.zeta / (here * least) * heights
    moved = (halves * first.norm(dim=2)).sum(dim=1)
    curved = (halves.square() * (first * slope.abs() / here).norm(dim=2)).sum(dim=1)
    gradient = -(torch.einsum("brk,hrk->bhr", residual, problem.content) * problem.zeta / here.square()).sum(dim=2)
    # Design: e(z) = -(z - c) D' / D(z), and its part beyond the tangent -(z - c) D' / D(c).
    relative = halves * (slope.abs() / least).amax(dim=2)
    beyond = halves.square() * (slope.square() / (here * least)).amax(dim=2)
    turned, bent, skew = torch.zeros_like(size), torch.zeros_like(size), torch.zeros_like(halves)
    offset = problem.common.shape[1] if extended else 0
    for h, block in enumerate(problem.blocks):
        part = slice(offset, offset + block.shape[1])
        offset += block.shape[1]
        piece = matrix[:, :, part] @ inverse[:, part]
        weight = piece.flatten(1).norm(dim=1)
        turned = turned + relative[:, h] * weight
        bent = bent + beyond[:, h] * weight
        against = piece.mT @ (-(slope[h] / here[:, h])[..., None] * residual)
        gradient[:, h] += (against * start).flatten(1).sum(dim=1)
        skew[:, h] = against.flatten(1).norm(dim=1)

    eta = (turned + slack) * (1 + unit)
    drift = (moved + problem.fixed_error) * (1 + unit)
    room = 1 - skewed - stretch * eta - unit
    far = (left + stretch * (formed + drift + eta * norm) + eta * upper) / room * (1 + unit)
    reach = norm + far
    lost = ((halves * gradient.abs()).sum(dim=1) + (halves * skew).sum(dim=1) * far + left * far) / size
    lost = lost + formed + problem.fixed_error + curved + (bent + slack) * reach + unit * (moved + turned * reach)
    bound = (size * (1 - unit) - lost * (1 + unit)) * (1 - unit)
    holds = (room > 0) & (relative.amax(dim=1) < 1)
    return torch.where(holds, bound, 0.0).nan_to_num(0.0, 0.0, 0.0).clamp(min=0.0, max=upper), size
