"""What the error of an interpolating transformer is made of, item by item, each rounded up.

On the good set the backbone returns multilinear interpolation of the table, up to weights that are not quite those of
interpolation, nodes that should have no weight, and rounding. With q(t) = t (1 - t) and cells of side h = 1 / m,

    |f(X) - interpolant(X)| <= (H / 2) h^2 sum_a q(t_a),     E (sum_a q)^2 = s / 30 + s (s - 1) / 36,

because interpolating one axis after the other errs by |d^2 f / dx_a^2| h^2 q(t_a) / 2 at most, and none of the other
steps, which are means, makes that longer. If the weight on one axis is off by e, the output moves by at most e C h.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Context, Decimal
from fractions import Fraction

from promptreach import rounding
from promptreach.compiler.parts.error_budget import EXP_UNITS
from promptreach.compiler.parts.sampling import sample_room

STEEPEST_BEND = Fraction(962251, 10**7)
"""At least the largest second derivative of the logistic function, 1 / (6 sqrt 3) = 0.0962250..."""

_PRECISE = Context(prec=50, rounding=ROUND_CEILING)


@dataclass(frozen=True)
class InterpolationLedger:
    """The items of one certificate, 2-norms over all entries.

    Attributes:
        bent: root mean square of the distance between f and its interpolant, with the room for samples (`sampling`).
        weights: from the piecewise-linear logit.
        leak: from nodes and tokens that should have no weight.
        rounding: of the arithmetic, of nodes and inputs.
        ramps: at most the mean, over the whole cube, of the squared error inside ramps.
        mean: the d_2 bound, rounded up; infinite where scores are too coarse.
        sup: the bound at every point outside the ramps.
    """

    bent: float
    weights: float
    leak: float
    rounding: float
    ramps: float
    mean: float
    sup: float


def interpolation_ledger(
    *,
    size: int,
    tokens: int,
    cells: int,
    lipschitz: float,
    curvature: float,
    ramp: float,
    weight_error: Fraction,
    slopes: Fraction,
    knots: int,
    beta: int,
    reach: int,
    apart: int,
    dtype: str,
) -> InterpolationLedger:
    """The ledger of one interpolation.

    Args:
        size: s, the axes.
        tokens: of them, L.
        cells: m.
        lipschitz, curvature: C and H.
        ramp: width of a ramp.
        weight_error: how far the logistic function of the tilt may be from the fraction (`logit_error`).
        slopes: the sum of the absolute changes of slope of the tilt.
        knots: their number.
        beta, reach, apart: sharpness, Lambda, and how far prompt and content are kept apart, in whole nats.
        dtype: of the arithmetic.
    """
    unit, root, slots = rounding.EXACT_UNIT[dtype], rounding.sqrt_up(Fraction(size)), (cells + 1) ** size
    terms = 2 * (slots + tokens) + 4 * EXP_UNITS
    if terms * unit >= Fraction(1, 4):
        return InterpolationLedger(*[math.inf] * 7)
    constant, step = Fraction(lipschitz), Fraction(1, cells)
    bend = Fraction(curvature) / 2 * step**2
    # (sum_a q)^2 has this mean and is at most (size / 4)^2, which bounds its variance: mean (largest - mean).
    mean_square = Fraction(size, 30) + Fraction(size * (size - 1), 36)
    above = Fraction(size * size, 16) / mean_square - 1
    bent = bend * rounding.sqrt_up(mean_square * (1 + sample_room(above, above)))
    weights = size * weight_error * constant * (step + 2 * unit)
    far, never = rounding.exp_up(2 * beta - reach), rounding.exp_up(apart)
    leak = (2 * far / (1 - far) * size + tokens * never) * root * (1 + 2 * EXP_UNITS * unit)
    # The largest number filed, and what every step adds to its error on the way into a score.
    largest = 2 * beta * cells + 2 * reach + 1
    fraction = rounding.exact_gamma(4, dtype) * (2 * cells + 1)
    tilt = (fraction + 2 * rounding.exact_gamma(knots + 8, dtype)) * slopes
    query = tilt + largest * (slots * never + 15 * unit + 2 * rounding.exact_gamma(terms, dtype) + 8 * unit)
    products = size * cells * 2 * largest + 2 * beta * size * cells**2 + apart
    scores = rounding.exact_gamma(size + 4, dtype) * products + size * cells * query
    if 2 * scores > 1:
        return InterpolationLedger(*[math.inf] * 7)
    # exp(2 x) - 1 <= 4 x for 2 x <= 1; softmax and sums; pick, clamp and the table's own rounding; nodes and inputs.
    rounded = (4 * scores + rounding.exact_gamma(terms, dtype) + 19 * unit + 2 * constant * unit) * root
    ramps = size * (cells - 1) * (Fraction(ramp) + unit) * size
    beside = weights + leak + rounded
    return InterpolationLedger(
        bent=rounding.float_above(bent),
        weights=rounding.float_above(weights),
        leak=rounding.float_above(leak),
        rounding=rounding.float_above(rounded),
        ramps=rounding.float_above(ramps),
        mean=rounding.float_above(rounding.sqrt_up((bent + beside) ** 2 + ramps)),
        sup=rounding.float_above(bend * size / 4 + beside),
    )


def logit_error(knots: Sequence[Fraction | float], heights: Sequence[Fraction | float], reach: int) -> Fraction:
    """At least |sigma(tilt(t) - reach) - t| for every t in [0, 1], for the interpolant of the heights at the knots.

    At the knots it is computed. Between two of them sigma of a chord bends by at most |difference of heights|^2 / 8
    times `STEEPEST_BEND` more; beyond the ends the tilt is constant, and the error at most what is left of [0, 1].
    """
    levels = [_logistic(Fraction(height) - reach) for height in heights]
    places = [Fraction(knot) for knot in knots]
    at_knots = max(abs(level - place) for level, place in zip(levels, places, strict=True))
    steps = [abs(Fraction(right) - Fraction(left)) for left, right in itertools.pairwise(heights)]
    between = at_knots + max(steps) ** 2 / 8 * STEEPEST_BEND
    tiny = Fraction(1, 10**40)
    return max(between, levels[0], places[0], 1 - levels[-1], 1 - places[-1]) + tiny


def _logistic(value: Fraction) -> Fraction:
    """The logistic function to 10^-45 or better."""
    exponent = _PRECISE.divide(Decimal(value.numerator), Decimal(value.denominator))
    return 1 / (1 + Fraction(_PRECISE.exp(-exponent)))
