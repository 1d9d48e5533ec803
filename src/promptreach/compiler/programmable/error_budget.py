"""The error budgets of the two table transformers: what their errors are made of, item by item, each rounded up.

On the good set (no coordinate inside a ramp) a backbone returns what a perfect reader of its table would, up to leaks
of the softmax and rounding; inside the ramps it returns something in the cube. So

    mean^2 <= (inside + leak + rounding)^2 + ramps,     sup over the good set <= everywhere + leak + rounding.

A certificate bounds a mean over uniform inputs, and users measure it on a sample. Where a function is everywhere as
steep as declared, the two are equal, and a sample would come out above the mean half of the time. So `inside` leaves
the room that Bernstein's inequality asks for, and the claim says so.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Context, Decimal
from fractions import Fraction

from promptreach.compiler.plan import Plan
from promptreach.evidence import Side
from promptreach.rounding import (
    EXACT_UNIT,
    EXP_UNITS,
    LARGEST_WHOLE,
    exact_gamma,
    exp_up,
    float_above,
    shown_bound,
    sqrt_up,
)

FRESH_POINTS = 20_000
"""Samples of at least so many independent uniform points stay below a certificate, up to `CHANCE`."""

CHANCE = 1e-9
"""The probability that a sample's error exceeds its certificate, points inside ramps aside."""

STEEPEST_BEND = Fraction(962251, 10**7)
"""At least the largest second derivative of the logistic function, 1 / (6 sqrt 3) = 0.0962250..."""

_PRECISE = Context(prec=50, rounding=ROUND_CEILING)


@dataclass(frozen=True)
class ErrorBudget:
    """The items of one certificate, exact, in the 2-norm over all entries.

    Attributes:
        inside: root mean square error of a perfect reader over the good set, with the room for samples.
        everywhere: its largest error at any point of the good set.
        leak: what weights add that are not those of a perfect reader.
        rounding: what floating-point arithmetic adds, table entries included.
        ramps: at most the mean, over the whole cube, of the squared error inside ramps.
        certain: False where the arithmetic cannot tell slots or digits apart; both bounds are then infinite.
    """

    inside: Fraction = Fraction(0)
    everywhere: Fraction = Fraction(0)
    leak: Fraction = Fraction(0)
    rounding: Fraction = Fraction(0)
    ramps: Fraction = Fraction(0)
    certain: bool = True

    @property
    def mean(self) -> float:
        """The d_2 bound, rounded up."""
        squared = (self.inside + self.leak + self.rounding) ** 2 + self.ramps
        return float_above(sqrt_up(squared)) if self.certain else math.inf

    @property
    def sup(self) -> float:
        """The bound at every point outside the ramps, rounded up."""
        return float_above(self.everywhere + self.leak + self.rounding) if self.certain else math.inf


def table_budget(plan: Plan, lipschitz: float, radius: Fraction, sharpness: int) -> ErrorBudget:
    """The budget of `programmable`, where |f(X) - f(centre)| <= C |X - centre|.

    On one axis the intervals of the m cells lie within r of their centres, so the mean square of C |X - centre| is at
    most C^2 size (2/3) m r^3.

    Args:
        plan: sizes and dtype.
        lipschitz: C.
        radius: r, rounding of inputs included.
        sharpness: beta, whole nats.
    """
    dtype, unit, size, rows = plan.dtype, EXACT_UNIT[plan.dtype], plan.dim * plan.tokens, plan.slots + plan.tokens
    # Scores are whole numbers up to 3 beta n^2; beyond the last exact one, slots cannot be told apart.
    if 3 * sharpness * (plan.slots // 2 + 1) ** 2 >= LARGEST_WHOLE[dtype]:
        return ErrorBudget(certain=False)
    constant, root = Fraction(lipschitz), sqrt_up(Fraction(size))
    # |X - centre|^2 is at most a sum of `size` squares of uniform numbers up to r: of mean size r^2 / 3, at most 3
    # times that, and of variance 4 / (5 size) times its square.
    room = 1 + sample_room(Fraction(4, 5 * size), Fraction(2))
    # sum_{k != 0} exp(-beta k^2) <= 2 exp(-beta) / (1 - exp(-3 beta)), since k^2 >= 1 + 3 (|k| - 1).
    first = exp_up(sharpness)
    others = 2 * first / (1 - first**3) * (1 + 2 * EXP_UNITS * unit)
    # exp twice, two sums of `rows` terms, their quotient, the factor L + 1 and the sum of prompt and content.
    lost = exact_gamma(2 * rows + 4 * EXP_UNITS, dtype) * (1 + others)
    return ErrorBudget(
        inside=sqrt_up(room * constant**2 * size * Fraction(2, 3) * plan.cells * radius**3),
        everywhere=constant * radius * root,
        leak=others * root,
        # Beside the softmax: a table entry rounded to dtype, and the two roundings of the clamp.
        rounding=(lost + 3 * unit) * root,
        ramps=_ramps(plan),
        # Beyond a quarter the selection of contexts could take one digit for another.
        certain=(plan.cells - 1) * (others + lost) <= Fraction(1, 4),
    )


def interpolation_budget(
    plan: Plan, lipschitz: float, knots: Sequence[float], heights: Sequence[float | Fraction], slopes: Fraction
) -> ErrorBudget:
    """The budget of `multilinear`, for functions with second derivatives of at most H = `plan.options["curvature"]`.

    With q(t) = t (1 - t) and cells of side h = 1 / m,

        |f(X) - interpolant(X)| <= (H / 2) h^2 sum_a q(t_a),     E (sum_a q)^2 = s / 30 + s (s - 1) / 36,

    because interpolating one axis after the other errs by |d^2 f / dx_a^2| h^2 q(t_a) / 2 at most, and none of the
    other steps, which are means, makes that longer. If the weight on one axis is off by e, the output moves by at most
    e C h.

    Args:
        plan: sizes, dtype and curvature; of `plan.derived` beta, reach and apart.
        lipschitz: C.
        knots, heights: of the tilt as the weights make it, its height at 1 included.
        slopes: the sum of the absolute changes of its slope.
    """
    dtype, unit, size, cells = plan.dtype, EXACT_UNIT[plan.dtype], plan.dim * plan.tokens, plan.cells
    beta, reach, apart = (plan.derived[name] for name in ("beta", "reach", "apart"))
    root, terms = sqrt_up(Fraction(size)), 2 * (plan.slots + plan.tokens) + 4 * EXP_UNITS
    if terms * unit >= Fraction(1, 4):
        return ErrorBudget(certain=False)
    constant, step = Fraction(lipschitz), Fraction(1, cells)
    bend = Fraction(float(plan.options["curvature"])) / 2 * step**2
    # (sum_a q)^2 has this mean and is at most (size / 4)^2, which bounds its variance: mean (largest - mean).
    mean_square = Fraction(size, 30) + Fraction(size * (size - 1), 36)
    above = Fraction(size * size, 16) / mean_square - 1
    weights = size * logit_error(knots, heights, reach) * constant * (step + 2 * unit)
    far, never = exp_up(2 * beta - reach), exp_up(apart)
    leak = (2 * far / (1 - far) * size + plan.tokens * never) * root * (1 + 2 * EXP_UNITS * unit)
    # The largest number filed, and what every step adds to its error on the way into a score.
    largest = 2 * beta * cells + 2 * reach + 1
    tilt = (exact_gamma(4, dtype) * (2 * cells + 1) + 2 * exact_gamma(len(knots) + 8, dtype)) * slopes
    query = tilt + largest * (plan.slots * never + 15 * unit + 2 * exact_gamma(terms, dtype) + 8 * unit)
    products = size * cells * 2 * largest + 2 * beta * size * cells**2 + apart
    scores = exact_gamma(size + 4, dtype) * products + size * cells * query
    return ErrorBudget(
        inside=bend * sqrt_up(mean_square * (1 + sample_room(above, above))),
        everywhere=bend * size / 4,
        leak=weights + leak,
        # exp(2 x) - 1 <= 4 x for 2 x <= 1; softmax and sums; pick, clamp and the table's own rounding; nodes, inputs.
        rounding=(4 * scores + exact_gamma(terms, dtype) + 19 * unit + 2 * constant * unit) * root,
        ramps=_ramps(plan),
        certain=2 * scores <= 1,
    )


def _ramps(plan: Plan) -> Fraction:
    # Real inputs within half a unit of a ramp may be rounded into it.
    size = plan.dim * plan.tokens
    return size * (plan.cells - 1) * (Fraction(plan.ramp) + EXACT_UNIT[plan.dtype]) * size


def logit_error(knots: Sequence[float], heights: Sequence[float | Fraction], reach: int) -> Fraction:
    """At least |sigma(tilt(t) - reach) - t| for every t in [0, 1], for the interpolant of the heights at the knots.

    At the knots it is computed. Between two of them sigma of a chord bends by at most |difference of heights|^2 / 8
    times `STEEPEST_BEND` more; beyond the ends the error is at most what is left of [0, 1], at the height of the last
    knot and at one more height, that at 1, where it is given.
    """
    levels = [_logistic(Fraction(height) - reach) for height in heights]
    places = [Fraction(knot) for knot in knots]
    at_knots = max(abs(level - place) for level, place in zip(levels, places, strict=False))
    steps = [abs(Fraction(right) - Fraction(left)) for left, right in itertools.pairwise(heights)]
    between = at_knots + max(steps) ** 2 / 8 * STEEPEST_BEND
    ends = (levels[0], places[0], 1 - places[-1], *(1 - level for level in levels[len(places) - 1 :]))
    return max(between, *ends) + Fraction(1, 10**40)


def _logistic(value: Fraction) -> Fraction:
    """The logistic function to 10^-45 or better."""
    exponent = _PRECISE.divide(Decimal(value.numerator), Decimal(value.denominator))
    return 1 / (1 + Fraction(_PRECISE.exp(-exponent)))


def sample_room(variance: Fraction, largest: Fraction) -> Fraction:
    """The x such that a sample mean exceeds (1 + x) times the mean with probability at most `CHANCE`.

    For every distribution of squared errors with mean 1, variance at most `variance` and no value above 1 + `largest`,
    and every sample of at least `FRESH_POINTS`: P(sample mean > 1 + x) <= exp(-n x^2 / (2 (variance + largest x / 3))),
    and x is where the right side is `CHANCE` for the smallest sample.

    Reference: Bernstein's inequality; theorem key ``sample-room``.
    """
    nats = Fraction(math.nextafter(-math.log(CHANCE), math.inf)) + Fraction(1, 10**9)
    half = nats * largest / (3 * FRESH_POINTS)
    return half + sqrt_up(half**2 + 2 * nats * variance / FRESH_POINTS)


def sample_clause(ramps: float) -> str:
    """The sentence of a claim that speaks of samples; `ramps` is the measure of the ramps."""
    return (
        f"So is that root over {FRESH_POINTS:,} or more independent uniform points, but for a chance of {CHANCE:g} and "
        f"{shown_bound(ramps, Side.UPPER, 2)} a point."
    )
