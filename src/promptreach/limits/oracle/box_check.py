"""Second path of the floor of several heads: the boxes leave no masses out, and the bound holds on each.

The theorem is that of `box_bound`, but nothing is expanded there. In extended precision, each quantity that moves with
the masses is evaluated at the middle and both ends of every box. With z the mass of one head, 1 / D and the share p of
each example are monotone and of one curvature in z, so a movement is largest at an end of the box, and the part of it
beyond the tangent at the middle lies between 0 and its value at the end.

What is taken as given are the matrices T of float64: the bound holds for any of them, and how nearly they
orthonormalise the design is computed here.

Its own rounding, of 2^-64 where there is extended precision, is carried as in `box_bound`: each number here comes from
sums of products with fewer than `roundings` roundings, so it is within gamma(roundings) of the sum of magnitudes, and
every such sum is formed and taken off.
"""

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from promptreach.limits.oracle.box_bound import MassProblem, frame, mass_problem, reference, shares
from promptreach.limits.oracle.single_head import mass_error
from promptreach.limits.oracle.statistics import HeadStatistics

_BATCH = 64


def tiles(boxes: Float[Tensor, "leaves heads 2"]) -> bool:
    """True if the boxes tile [0, 1]^heads exactly.

    The indicator function of a half-open box is a sum over its corners, with alternating signs, of the indicators of
    what lies above them; those of different corners are linearly independent. So the boxes' indicators add up to that
    of the cube if and only if their signed corners do.
    """
    if not len(boxes) or not bool((boxes[..., 1] > boxes[..., 0]).all()):
        return False
    heads = boxes.shape[1]
    choices = np.array(list(product((0, 1), repeat=heads)))
    alternating = (-1.0) ** choices.sum(axis=1)
    corners = boxes.numpy()[:, np.arange(heads), choices].reshape(-1, heads)
    owner = np.zeros(len(corners), dtype=np.int64)
    for axis in corners.T:
        place = np.unique(axis, return_inverse=True)[1]
        owner = np.unique(owner * len(corners) + place, return_inverse=True)[1]
    sums = np.bincount(owner, weights=np.tile(alternating, len(boxes)))[owner]
    left = {tuple(corner): sign for corner, sign in zip(corners[sums != 0].tolist(), sums[sums != 0], strict=True)}
    return left == {tuple(corner): sign for corner, sign in zip(choices.tolist(), alternating, strict=True)}


def bounded(
    statistics: Sequence[HeadStatistics],
    outputs: Sequence[Float[Tensor, "out value_dim"]],
    targets: Float[Tensor, "n out"],
    boxes: Float[Tensor, "leaves heads 2"],
    lower: float,
    upper: float,
) -> bool:
    """True if on every box no prompt has an error below both `lower` and `upper`."""
    narrow = mass_problem(statistics, outputs, targets)
    if narrow is None:
        return False
    problem = _Wide(narrow, statistics, outputs, targets)
    for batch in torch.split(boxes, _BATCH):
        missed = ~problem.holds(batch, lower, upper, extended=False)
        if missed.any() and not problem.holds(batch[torch.from_numpy(missed)], lower, upper, extended=True).all():
            return False
    return True


class _Wide:
    """The problem in extended precision; see `box_bound.MassProblem`."""

    def __init__(
        self, narrow: MassProblem, statistics: Sequence[HeadStatistics], outputs: Sequence[Tensor], targets: Tensor
    ) -> None:
        self.narrow = narrow
        masses = [_wide(item.lse) - reference(item) for item in statistics]
        contents = [_wide(item.mean) @ _wide(output).T for item, output in zip(statistics, outputs, strict=True)]
        # One right-hand side per output, or one row per example and output.
        per_example = narrow.zeta.shape[1] // len(targets)
        self.zeta = np.exp(np.stack(masses)).repeat(per_example, axis=1)
        self.content = np.stack(contents).reshape(narrow.content.shape)
        self.targets = _wide(targets).reshape(narrow.targets.shape)
        self.blocks, self.common = [_wide(block) for block in narrow.blocks], _wide(narrow.common)
        self.unit = _gamma(2 * narrow.roundings)
        self.mass_error = max(mass_error(item) for item in statistics)
        self.fixed_error = sum(
            float(output.norm() * item.mean_error.norm()) + self.mass_error * _norm(content)
            for item, output, content in zip(statistics, outputs, contents, strict=True)
        )

    def holds(self, boxes: Tensor, lower: float, upper: float, extended: bool) -> Any:
        """Which boxes have a bound of at least `lower`, from one of the two designs."""
        with np.errstate(all="ignore"):  # dependent columns give what is not a number, and then nothing holds
            return self._bounds(boxes, upper, extended) >= lower

    def _bounds(self, leaves: Tensor, upper: float, extended: bool) -> Any:
        inverse = _wide(frame(self.narrow, shares(self.narrow, leaves.mean(dim=2))[0], extended)[1])
        boxes = _wide(leaves)
        slope, middle = 1 - self.zeta, boxes.mean(axis=2)
        ends = np.moveaxis(boxes, 2, 0)  # (2, boxes, heads)
        steps = ends - middle
        here, share = self._shares(middle)
        there, share_there = self._shares(ends)
        # What each example's column and share do at the two ends, and what of it is beyond the tangent.
        turned, moved = here / there - 1, share_there - share
        turned_beyond = turned + steps[..., None] * slope / here
        moved_beyond = moved + steps[..., None] * self.zeta / here**2
        # Differences of numbers that round: off by so much of the numbers themselves.
        off = self.unit * (
            2 + np.abs(here / there).max(axis=(0, 3)) + np.abs(steps).max(axis=0) * 2 * np.abs(slope / here).max(axis=2)
        )
        turned_most, beyond_most = (np.abs(item).max(axis=(0, 3)) + off for item in (turned, turned_beyond))
        moved_most = (_norm(self.content, 2) * (np.abs(moved).max(axis=0) + 2 * self.unit))[..., None]

        parts = self._times_blocks(slope / here if extended else 1 / here)
        common = [np.broadcast_to(self.common, (len(boxes), *self.common.shape))] * extended
        design = np.concatenate([*common, *parts], axis=2)
        basis = design @ inverse
        fixed = (share[..., None] * self.content).sum(axis=1) - self.targets
        start = -_transposed(basis) @ fixed
        # T is as exact as float64 makes it; a second step makes up for that.
        start = start - _transposed(basis) @ (fixed + basis @ start)
        residual = fixed + basis @ start
        size, norm, length = _norm(residual), _norm(start), _norm(basis)
        formed = self.unit * (_norm(fixed) + _norm(self.targets) + length * norm)
        formed = formed + self.unit * (_norm(self.content) * share.max(axis=2)).sum(axis=1)
        left = _norm(_transposed(basis) @ residual) + self.unit * length * size
        skewed = _norm(_transposed(basis) @ basis - np.eye(basis.shape[2])) + self.unit * length**2

        massive = np.concatenate(self._times_blocks(self.zeta / here**2 if extended else 1 / here), axis=2)
        loose = (_norm(massive, 1) * _norm(inverse, 2)[:, -massive.shape[2] :]).sum(axis=1)
        loose = self.mass_error * (1 + self.mass_error) * (1 + turned_most.max(axis=1)) ** 2 * loose
        # What the product of design and T rounds, anywhere in the box.
        product = (_norm(design, 1) * _norm(inverse, 2)).sum(axis=1)
        loose = loose + 4 * self.unit * product * (1 + turned_most.max(axis=1)) ** 2
        lifts = np.split(inverse, np.cumsum([block.shape[2] for block in [*common, *parts]])[:-1], axis=1)[extended:]
        weight = np.stack([_norm(part @ lift) for part, lift in zip(parts, lifts, strict=True)], axis=1)
        eta = (turned_most * weight).sum(axis=1) + loose
        drift = _norm(moved_most).sum(axis=1) + self.fixed_error
        stretch = np.sqrt(1 + skewed)
        room = 1 - skewed - stretch * eta
        far = (left + stretch * (formed + drift + eta * norm) + eta * upper) / room

        pushed = (residual[:, None] * self.content).sum(axis=3)
        outputs = np.stack([part @ (lift @ start) for part, lift in zip(parts, lifts, strict=True)], axis=1)
        columns = (residual[:, None] * outputs).sum(axis=3)
        tangent = -((pushed * self.zeta / here + columns * slope) / here).sum(axis=2)
        beyond = np.minimum(0, pushed * moved_beyond) + np.minimum(0, columns * turned_beyond)
        change = (np.minimum(0, steps * tangent) + beyond.sum(axis=3)).min(axis=0).sum(axis=1)
        pulls = [
            _transposed(part * rate[..., None]) @ residual
            for part, rate in zip(parts, (slope / here).swapaxes(0, 1), strict=True)
        ]
        skew = np.stack([_norm(_transposed(lift) @ pull) for lift, pull in zip(lifts, pulls, strict=True)], axis=1)
        skew = np.abs(steps).max(axis=0) * skew + beyond_most * weight * size[:, None]
        # The changes are sums of these magnitudes, each right to a few units.
        terms = (np.abs(pushed) * (np.abs(moved_beyond).max(axis=0) + 2)).sum(axis=(1, 2))
        terms = terms + (np.abs(columns) * (np.abs(turned_beyond).max(axis=0) + 2 + off[..., None])).sum(axis=(1, 2))
        terms = terms + (np.abs(steps).max(axis=0) * np.abs(tangent)).sum(axis=1)
        shift = (change - (skew.sum(axis=1) + left) * far - 4 * self.unit * terms) / size
        bound = size + shift - loose * (norm + far) - self.fixed_error - formed
        bound = bound - 8 * self.unit * (size + np.abs(shift) + norm + far)
        return np.fmax(0, np.where((room > 0) & (size > 0), np.minimum(bound, upper), 0))

    def _shares(self, z: Any) -> tuple[Any, Any]:
        weighted = self.zeta * (1 - z[..., None])
        return weighted + z[..., None], weighted / (weighted + z[..., None])

    def _times_blocks(self, columns: Any) -> list[Any]:
        return [columns[:, h, :, None] * block for h, block in enumerate(self.blocks)]


def _gamma(count: int) -> Any:
    """Higham's gamma in extended precision, with a unit for what is rounded in forming it."""
    share = np.longdouble(count + 1) * np.finfo(np.longdouble).eps
    return share / (1 - share)


def _norm(array: Any, axes: int | tuple[int, int] = (-2, -1)) -> Any:
    return np.sqrt((array**2).sum(axis=axes))


def _transposed(array: Any) -> Any:
    return array.swapaxes(-2, -1)


def _wide(tensor: Tensor) -> Any:
    return tensor.numpy().astype(np.longdouble)
