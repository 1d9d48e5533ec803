"""The global search over one mass: the least error that any prompt reaches at one query, bounded from below.

The problem is min over a > 0 and b of the root of sum_i |(N_i + b) / (Z_i + a) - t_i|^2. It is not convex in a, and its
infimum may lie at a -> 0 or a -> infinity. What makes it tractable is one inequality.

**Dual bound.** Let M (n, out) have sum_i M_i = 0. Then for every b,

    error(a)  >=  <M, N - (Z + a) t> / |(Z + a) M|  =:  bound(a),

because with L_i = (Z_i + a) M_i the residual r satisfies <L, r> = <M, N + b - (Z + a) t>, in which b cancels, and
<L, r> <= |L| |r|. The numerator is linear in a and the denominator a norm of something linear in a, so where the
bound is positive it is quasi-concave: on an interval it is least at one of the two ends. In projective coordinates
(A, B), with a = B / A, this includes a = 0 and a = infinity.

So a partition of [0, infinity] into intervals, a test matrix M for each and two evaluations prove a floor over *all*
masses. The best M at one mass is the residual there divided by Z + a; the bound is then exact at that mass and loses to
second order around a minimum, so that some hundred intervals reach a relative gap of 1e-9.

Rounding: M is *defined* as w_i (e_i - mean), exactly summing to 0, with float weights w and float vectors e; numerator
and denominator are sums whose errors are bounded, and so is the distance between e and the residual it stands for.

Sizes: masses may be 600 nats apart, so their squares leave the range of float64. Content and targets are scaled to at
most 1 (`scales`), and the row of each example is divided by d_i, a power of two near its D at the mass where the frame
stands: near it rows are of the size of residuals. A constant vector c then stands as kappa_i c in row i, kappa_i =
min d / d_i. Intervals whose middle is more than 60 nats from the frame, and test matrices below 1e-50, get the bound 0;
for the others what underflows moves the bound by less than 1e-60, and 1e-50 is taken off it.

Notation: e(A, B) = A Z (h - t) - B t is the numerator of the residual up to a constant vector, D = A Z + B; in a frame
both are divided by d_i.

Reference: theorem key ``one-query-dual-bound``.
"""

import math
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from promptreach.limits.oracle.scales import exponent, lowered, times_power
from promptreach.rounding import gamma

RELATIVE_GAP = 1e-9
"""The gap between the certified floor and the error that was reached, relative to that error."""

_REACH = 30.0  # nats beyond the content's masses: there the prompt has, or leaves to the content, a share of 1e-13
_CELL = 4.0  # nats around a mass within which one frame serves
_FAR = 60.0  # nats from a frame's mass beyond which nothing in it is certified
_NOTHING = 1e-50  # of numbers of size 1: what underflows counts for less
_OUTWARD = 1e-12  # nats by which an interval of whole numbers of slots reaches beyond them
_NOISE = 1e-7  # of numbers of size 1: the plain errors are not better than this
_ROUNDS = 60
_MOST_BOXES = 4096


class MassSearch(NamedTuple):
    """The outcome of the search.

    Attributes:
        lower: certified: no a and b have a smaller error. The error is a Euclidean norm over all examples and entries.
        upper: the error at `lse` and `mean`, as computed.
        lse: log a in nats; -inf when no slot at all is best.
        mean: b / a.
        attained: False when the error only approaches its infimum as a -> 0 or a -> infinity.
        boxes: (boxes, 2), the intervals that the lower bound rests on: log a less the `middle` of the log masses, which
            a narrow valley between large ones would lose to rounding.
    """

    lower: float
    upper: float
    lse: float
    mean: Float[Tensor, " out"]
    attained: bool
    boxes: Float[Tensor, "boxes 2"]


class _Shifted(NamedTuple):
    """The problem with log masses over the shift, which lies in their middle, and numbers of size 1 at most."""

    lse: Tensor
    mass: Tensor
    content: Tensor
    targets: Tensor


class _Frame(NamedTuple):
    """e(A, B) in coordinates around one mass, where it is small and keeps its digits; row i is divided by d_i."""

    mass: Tensor  # Z / d, with Z over the shift
    unit: Tensor  # 1 / d
    kappa: Tensor  # min d / d
    vectors: Tensor  # (n, 2 out): e at the mass, and the direction of change
    squares: Tensor  # (n, 3): their inner products
    drift: Tensor  # (n, 2): how far rounding moved either
    point: float  # log of the mass
    upward: bool  # which chart: (1, a) or (1/a, 1)
    pivot: float  # a in the first chart, 1/a in the second


def minimise(
    lse: Float[Tensor, " n"],
    content: Float[Tensor, "n out"],
    targets: Float[Tensor, "n out"],
    whole_slots: bool = False,
) -> MassSearch:
    """The least error over every mass and value sum of a prompt at one query, certified from below.

    For all a > 0 and all b: error >= lower. With `whole_slots` (a zero query) only the masses 1, 2, 3, ... occur, and
    no prompt at all (a = 0 with b = 0) counts as well.

    Args:
        lse: log Z_i, spread over at most 600 nats.
        content: N_i / Z_i, targets: t_i, both after the output projection.

    Reference: theorem keys ``one-query-dual-bound`` and ``one-query-reachability``.
    """
    power = exponent(content, targets) or 0
    found = _minimise_near_one(lse, times_power(content, -power), times_power(targets, -power), whole_slots)
    upper = float(times_power(torch.tensor(found.upper, dtype=torch.float64), power))
    return found._replace(lower=lowered(found.lower, power), upper=upper, mean=times_power(found.mean, power))


def _minimise_near_one(lse: Tensor, content: Tensor, targets: Tensor, whole_slots: bool) -> MassSearch:
    shift = middle(lse)
    problem = _Shifted(lse - shift, torch.exp(lse - shift), content, targets)
    reach = (float(lse.min()) - shift - _REACH, float(lse.max()) - shift + _REACH)
    if whole_slots:
        reach = (-shift, max(reach[1], -shift + 1.0))
    frame, upper = _descend(problem, reach, shift, whole_slots)
    nothing = gamma(content.numel()) * float(targets.norm())
    alone = float((content - targets).norm()) if whole_slots else math.inf
    boxes = _first_boxes(frame.point, reach, whole_slots, shift)
    settled, bounds = [], []
    for _ in range(_ROUNDS):
        target = min(upper, alone) * (1 - RELATIVE_GAP)
        lower, centres, values = _bounds(frame, boxes)
        far = (centres - frame.point).abs() > _FAR
        if bool(far.any()):
            values[far] = _plain_errors(problem, centres[far]) + _NOISE
        if len(values) and float(values.min()) < upper * (1 - RELATIVE_GAP):
            # Another valley is deeper, or the first descent stopped early.
            start = float(centres[values.argmin()])
            near = (max(reach[0], start - 0.5), min(reach[1], start + 0.5))
            found, value = _descend(problem, near, shift, whole_slots)
            if value < upper:
                frame, upper = found, value
                continue
        lower = _again_from_nearby(problem, frame.point, boxes, centres, lower, target)
        width = boxes[:, 1] - boxes[:, 0]
        final = (lower >= target) | (width < 1e-7) | (upper <= nothing) | (len(boxes) > _MOST_BOXES)
        settled.append(boxes[final])
        bounds.append(lower[final])
        boxes = _split(boxes[~final], whole_slots, shift)
        if not len(boxes):
            break
    lower = torch.cat([*bounds, boxes.new_zeros(len(boxes))])
    floor = min(float(lower.min()), alone * (1 - gamma(content.numel() + 8)) - _NOTHING)
    kept = torch.cat([*settled, boxes])
    if alone <= upper:
        return MassSearch(max(floor, 0.0), alone, -math.inf, torch.zeros_like(content[0]), True, kept)
    point = frame.point
    mean = _best_mean(problem.mass, content, targets, point)
    ends = _plain_errors(problem, torch.tensor([math.inf] if whole_slots else [-math.inf, math.inf]).double())
    outside = point > reach[1] - 20.0 or (point < reach[0] + 20.0 and not whole_slots)
    attained = not (outside and bool((ends <= upper * (1 + 1e-9)).any()))
    return MassSearch(max(floor, 0.0), upper, point + shift, mean, attained, kept)


def middle(lse: Float[Tensor, " n"]) -> float:
    """The middle of the log masses, in nats: what intervals are counted from."""
    return 0.5 * float(lse.max() + lse.min())


def errors_over_masses(
    lse: Float[Tensor, " n"], content: Float[Tensor, "n out"], targets: Float[Tensor, "n out"], points: Tensor
) -> tuple[Float[Tensor, " k"], Float[Tensor, "k out"]]:
    """At each log mass of `points` (nats, absolute): the least error over all value sums, and b / a there.

    As computed, nothing certified: for curves, and for choosing among masses that are equally good.
    """
    shift = middle(lse)
    mass, shifted = torch.exp(lse - shift), points - shift
    means = torch.stack([_best_mean(mass, content, targets, point) for point in shifted.tolist()])
    share = torch.sigmoid(points[:, None] - lse)[..., None]
    return ((1 - share) * content + share * means[:, None] - targets).flatten(1).norm(dim=1), means


def _descend(problem: _Shifted, reach: tuple[float, float], shift: float, whole: bool) -> tuple[_Frame, float]:
    """The frame around the best mass that a grid and then parabolas find, and the error there.

    Nothing is proved here: what a descent misses, the intervals find.
    """
    centre = min(max(0.0, reach[0]), reach[1])
    grid = torch.linspace(*reach, 65, dtype=torch.float64)
    if reach[1] - reach[0] > _FAR:
        values = _plain_errors(problem, grid)
    else:
        values = _errors(_frame(problem, 0.5 * (reach[0] + reach[1])), grid)
    # Of masses that are as good as equal, the one nearest to the content's makes the tamest prompt.
    good = values <= values.min() * (1 + 1e-12) + gamma(1) * problem.targets.norm()
    point = float(grid[good][(grid[good] - centre).abs().argmin()])
    frame = _frame(problem, point)
    step, fresh = (reach[1] - reach[0]) / 64, 1e-4
    while step > 1e-13 and not bool(good.all()):
        # The closer, the more the digits of the residual itself are needed.
        if step < fresh or abs(point - frame.point) > _CELL:
            frame, fresh = _frame(problem, point), 1e-4 * min(fresh, step)
        beside = torch.tensor([point - step, point, point + step], dtype=torch.float64).clamp(*reach)
        left, here, right = _errors(frame, beside).square().tolist()
        if max(left, right) - here <= 1e-13 * here:
            break
        bend = left - 2 * here + right
        vertex = point + step * max(-1.0, min(1.0, 0.5 * (left - right) / bend)) if bend > 0 else point
        close = step / 8
        grid = torch.cat([beside, vertex + close * torch.arange(-1, 2, dtype=torch.float64)]).clamp(*reach)
        before, point = point, float(grid[_errors(frame, grid).argmin()])
        # A lopsided valley moves the best point by more than the parabola said: then look as far again.
        step = min(step / 2, max(close, 2 * abs(point - before)))
    if whole:
        slots = math.exp(min(point + shift, 700.0))
        grid = torch.log(torch.tensor([max(1.0, math.floor(slots)), math.ceil(slots)], dtype=torch.float64)) - shift
        point = float(grid[_errors(_frame(problem, point), grid).argmin()])
    frame = _frame(problem, point)
    return frame, float(_errors(frame, torch.tensor([point], dtype=torch.float64))[0])


def _frame(problem: _Shifted, point: float) -> _Frame:
    """Coordinates around the mass exp(point), chosen so that no number in them is larger than need be."""
    upward = point > 0
    pivot = math.exp(-abs(point))
    here = (pivot, 1.0) if upward else (1.0, pivot)
    other = (pivot, 0.0) if upward else (0.0, pivot)
    scale = torch.ldexp(torch.ones_like(problem.mass), torch.frexp(here[0] * problem.mass + here[1])[1])
    mass, unit, kappa = problem.mass / scale, 1 / scale, scale.min() / scale
    rise = mass[:, None] * (problem.content - problem.targets)
    lengths = problem.targets.norm(dim=1)
    sizes = mass * (problem.content.norm(dim=1) + lengths)
    weights = (here[0] * mass + here[1] * unit).pow(-2) * kappa
    weights = weights / (weights @ kappa)
    vectors, drift = [], []
    for a, b in (here, other):
        vector = a * rise - (b * unit)[:, None] * problem.targets
        mean = weights @ vector
        vectors.append(vector - kappa[:, None] * mean)
        drift.append(gamma(8) * (a * sizes + b * unit * lengths + kappa * mean.norm()))
    first, second = vectors
    squares = torch.stack([(first * first).sum(1), (first * second).sum(1), (second * second).sum(1)], dim=1)
    return _Frame(
        mass, unit, kappa, torch.cat(vectors, dim=1), squares, torch.stack(drift, dim=1), point, upward, pivot
    )


def _place(frame: _Frame, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """For log masses: D (k, n) and the coordinates of e in the frame (k, 2), with the rounding of the second one."""
    small = torch.exp(-points.abs())
    upper = points > 0
    a, b = torch.where(upper, small, 1.0), torch.where(upper, 1.0, small)
    denominators = a[:, None] * frame.mass + b[:, None] * frame.unit
    first, second = (b, a / frame.pivot) if frame.upward else (a, b / frame.pivot)
    return denominators, torch.stack([first, second - first], dim=1), gamma(4) * (second + first)


def _centred(frame: _Frame, points: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """At each log mass: weights, coordinates, weighted sums of the frame's vectors, mean of e, and |e - mean|^2."""
    denominators, place, _ = _place(frame, points)
    weights = denominators.amin(dim=1, keepdim=True) / denominators
    weights = weights * weights
    shares = weights * frame.kappa
    sums = (shares @ frame.vectors).reshape(-1, 2, frame.vectors.shape[1] // 2)
    mean = torch.einsum("kp,kpo->ko", place, sums) / (shares @ frame.kappa)[:, None]
    along = (frame.vectors.reshape(-1, 2, frame.vectors.shape[1] // 2) @ mean.mT).permute(2, 0, 1)  # (k, n, 2)
    squares = _quadratic(place, place, frame) - 2 * frame.kappa * torch.einsum("knp,kp->kn", along, place)
    squares = (squares + frame.kappa.square() * mean.square().sum(dim=1, keepdim=True)).clamp(min=0.0)
    return weights, place, sums, mean, squares


def _errors(frame: _Frame, points: Tensor) -> Tensor:
    """The least error over b at each log mass, as computed; for masses near the frame's."""
    denominators, place, _ = _place(frame, points)
    weights = denominators.pow(-2)
    shares = weights * frame.kappa
    sums = torch.einsum("kp,kpo->ko", place, (shares @ frame.vectors).reshape(-1, 2, frame.vectors.shape[1] // 2))
    squares = (weights * _quadratic(place, place, frame)).sum(1) - sums.square().sum(1) / (shares @ frame.kappa)
    return squares.clamp(min=0.0).sqrt()


def _plain_errors(problem: _Shifted, points: Tensor) -> Tensor:
    """The same at masses however far apart, to half of the digits: from shares, whose squares cancel."""
    away = problem.lse - points.clamp(-2e3, 2e3)[:, None]
    kept = torch.sigmoid(away)
    share = -torch.nn.functional.softplus(away)
    share = torch.exp(share - share.amax(dim=1, keepdim=True))
    missing = share @ problem.targets - (share * kept) @ problem.content
    inner = [
        (a * b).sum(1) for a, b in ((problem.targets,) * 2, (problem.targets, problem.content), (problem.content,) * 2)
    ]
    whole = inner[0].sum() - 2 * kept @ inner[1] + kept.square() @ inner[2]
    return (whole - missing.square().sum(1) / share.square().sum(1)).clamp(min=0.0).sqrt()


def _quadratic(first: Tensor, second: Tensor, frame: _Frame) -> Float[Tensor, "points n"]:
    """<e_i, e_i'> of every example at two points each, given in the frame's coordinates."""
    (p, q), (r, s) = first.unbind(1), second.unbind(1)
    return torch.stack([p * r, p * s + q * r, q * s], dim=1) @ frame.squares.mT


def _bounds(frame: _Frame, boxes: Float[Tensor, "boxes 2"]) -> tuple[Tensor, Tensor, Tensor]:
    """A certified lower bound of the error on each interval; the centres; and the error there, as computed."""
    low, high = boxes[:, 0], boxes[:, 1]
    centres = torch.where(low.isinf(), high - 1.0, torch.where(high.isinf(), low + 1.0, 0.5 * (low + high)))
    centres = torch.where(low.isinf() & high.isinf(), torch.zeros_like(low), centres)
    n, out = frame.mass.shape[0], frame.vectors.shape[1] // 2
    weights, place, sums, mean, squares = _centred(frame, centres)
    extent = (place.abs() @ frame.squares[:, [0, 2]].sqrt().mT) + frame.kappa * mean.norm(dim=1, keepdim=True)
    slack = gamma(n + 2 * out + 64)
    known = (centres - frame.point).abs() <= _FAR
    ends = []
    for points in (low, high):
        denominators, there, off = _place(frame, points)
        # <M, e> with M = w (e_centre - mean); the mean's share is the product of two weighted sums.
        linear = (weights * _quadratic(place, there, frame)).sum(1) - torch.einsum("ko,kpo,kp->k", mean, sums, there)
        away = there.abs() @ frame.squares[:, [0, 2]].sqrt().mT
        linear = linear - slack * (weights * extent * away).sum(1) * 2
        size = ((denominators * weights).square() * (squares + 2 * slack * extent.square())).sum(1).sqrt()
        moved = there.abs() @ frame.drift.mT + off[:, None] * frame.squares[:, 2].sqrt()
        lost = (moved / denominators).norm(dim=1) * (1 + gamma(n + 10))
        bound = linear / (size * (1 + slack)) * (1 - gamma(8)) - lost - _NOTHING
        ends.append(torch.where(known & (size > _NOTHING) & bound.isfinite(), bound, 0.0))
    values = (squares / _place(frame, centres)[0].square()).sum(dim=1).sqrt()
    # Quasi-concavity needs both ends positive; elsewhere the bound is the trivial one.
    return torch.minimum(*ends).clamp(min=0.0), centres, values.nan_to_num(math.inf)


def _again_from_nearby(
    problem: _Shifted, point: float, boxes: Tensor, centres: Tensor, lower: Tensor, target: float
) -> Tensor:
    """The bounds, those below the target once more in a frame of their own where the best mass is many nats away.

    A frame keeps its digits around its own mass; twenty nats further nine of them are gone.
    """
    weak = (lower < target) & ((centres - point).abs() > _CELL)
    lower, cells = lower.clone(), torch.round(centres / _CELL)
    for cell in sorted(set(cells[weak].tolist())):
        here = weak & (cells == cell)
        nearby = _frame(problem, float(centres[here].median()))
        lower[here] = torch.maximum(lower[here], _bounds(nearby, boxes[here])[0])
    return lower


def _first_boxes(point: float, reach: tuple[float, float], whole: bool, shift: float) -> Float[Tensor, "boxes 2"]:
    """Intervals that widen in proportion to their distance from the best mass, over [0, infinity]."""
    offsets = [2e-5 * 1.6**k for k in range(40)]
    inside = [point + sign * offset for offset in offsets for sign in (-1, 1)]
    edges = sorted(edge for edge in inside if reach[0] < edge < reach[1])
    edges = [-shift if whole else -math.inf, *edges, math.inf]
    boxes = torch.tensor(list(pairwise(edges)), dtype=torch.float64)
    return _trim(boxes, shift) if whole else boxes


def _split(boxes: Tensor, whole: bool, shift: float) -> Tensor:
    """Each interval cut in four; an endless one three times towards its end."""
    low, high = boxes[:, 0], boxes[:, 1]
    third = torch.where(low.isinf(), high - 1.5, torch.where(high.isinf(), low + 6.0, low + 0.75 * (high - low)))
    half = torch.where(low.isinf(), high - 3.0, torch.where(high.isinf(), low + 3.0, low + 0.5 * (high - low)))
    first = torch.where(low.isinf(), high - 6.0, torch.where(high.isinf(), low + 1.5, low + 0.25 * (high - low)))
    edges = torch.stack([low, first, half, third, high], dim=1)
    cut = torch.stack([edges[:, :-1], edges[:, 1:]], dim=2).reshape(-1, 2)
    return _trim(cut, shift) if whole else cut


def _trim(boxes: Tensor, shift: float) -> Tensor:
    """Each interval shrunk to the whole numbers of slots in it; those without any are dropped."""
    # The count outward by 1e-9, so that rounding loses no whole number, and the interval by as much as the shift may
    # round; large numbers stay an interval.
    low = torch.ceil(torch.exp(boxes[:, 0] + shift) * (1 - 1e-9)).clamp(min=1.0)
    high = torch.floor(torch.exp(boxes[:, 1] + shift) * (1 + 1e-9))
    whole = high < 1e8
    out = torch.stack(
        [
            torch.where(low < 1e8, torch.log(low) - _OUTWARD - shift, boxes[:, 0]),
            torch.where(whole, torch.log(high) + _OUTWARD - shift, boxes[:, 1]),
        ],
        dim=1,
    )
    return out[low <= high]


def _best_mean(mass: Tensor, content: Tensor, targets: Tensor, point: float) -> Tensor:
    """b / a of the least error at one mass: the weighted mean of what is missing, weighted by the prompt's share."""
    share = torch.sigmoid(point - torch.log(mass))
    weights = share / share.max()
    missing = (targets - (1 - share)[:, None] * content) / share.max()
    return (weights @ missing) / (weights @ weights)
