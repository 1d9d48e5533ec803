"""What the error of a table transformer is made of, item by item, each rounded up.

On the good set (no coordinate inside a ramp) the backbone returns the table entry of the cell, up to the softmax leak
and rounding; there |f(X) - f(centre)| <= C |X - centre|. On the ramps it returns something in the cube. So

    mean^2 <= (cells + leak + rounding)^2 + ramps,     sup over the good set <= C r sqrt(size) + leak + rounding,

with cells^2 = (1 + x) C^2 size (2/3) m r^3, since on one axis the cells' intervals lie within r of their m centres;
x is the room that lets a sample's error stay below as well (`sampling`).
"""

import math
from dataclasses import dataclass
from fractions import Fraction

from promptreach import rounding
from promptreach.compiler.parts.sampling import sample_room

EXP_UNITS = 8
"""The exponential of the softmax is taken to err by at most so many units in the last place."""


@dataclass(frozen=True)
class Ledger:
    """The items of one certificate.

    Attributes:
        cells: root mean square of C |X - centre| over the good set, in the 2-norm over all entries, with the room for
            samples.
        ramps: at most the mean, over the whole cube, of the squared error inside ramps.
        leak: what the wrong slots add to the output, in the 2-norm.
        rounding: what floating-point arithmetic adds, table entries included, in the 2-norm.
        ramp, sharpness: as in `Plan`.
        mean: the d_2 bound, rounded up; infinite where the arithmetic cannot tell slots or digits apart.
        sup: the bound at every point outside the ramps.
    """

    cells: float
    ramps: float
    leak: float
    rounding: float
    ramp: float
    sharpness: int
    mean: float
    sup: float


def table_ledger(
    *,
    size: int,
    cells: int,
    radius: Fraction,
    lipschitz: float,
    ramp: float,
    sharpness: int,
    slots: int,
    content: int,
    dtype: str,
) -> Ledger:
    """The ledger of one lookup.

    Args:
        size: tokens * dim, the entries of one input and of one output.
        cells: along one axis.
        radius: of a cell along one axis, rounding of inputs included.
        lipschitz: C.
        ramp: width of a ramp.
        sharpness: beta, whole nats.
        slots: of the prompt, numbered around 0.
        content: positions behind the prompt.
        dtype: of the arithmetic.
    """
    # Scores are whole numbers up to 3 beta n^2; beyond the last exact one, slots cannot be told apart.
    if 3 * sharpness * (slots // 2 + 1) ** 2 >= rounding.LARGEST_WHOLE[dtype]:
        none = math.inf
        return Ledger(none, none, none, none, ramp, sharpness, none, none)
    constant, root = Fraction(lipschitz), rounding.sqrt_up(Fraction(size))
    # |X - centre|^2 is at most a sum of `size` squares of uniform numbers up to r: of mean size r^2 / 3, at most 3
    # times that, and of variance 4 / (5 size) times its square.
    room = 1 + sample_room(Fraction(4, 5 * size), Fraction(2))
    inside = rounding.sqrt_up(room * constant**2 * size * Fraction(2, 3) * cells * radius**3)
    # Real inputs within half a unit of a ramp may be rounded into it.
    ramps = size * (cells - 1) * (Fraction(ramp) + rounding.EXACT_UNIT[dtype]) * size
    # sum_{k != 0} exp(-beta k^2) <= 2 exp(-beta) / (1 - exp(-3 beta)), since k^2 >= 1 + 3 (|k| - 1).
    first = rounding.exp_up(sharpness)
    others = 2 * first / (1 - first**3) * (1 + 2 * EXP_UNITS * rounding.EXACT_UNIT[dtype])
    rows = slots + content
    # exp twice, two sums of `rows` terms, their quotient, the factor L + 1 and the sum of prompt and content.
    lost = rounding.exact_gamma(2 * rows + 4 * EXP_UNITS, dtype) * (1 + others)
    leak = others * root
    # Beside the softmax: a table entry rounded to dtype, and the two roundings of the clamp.
    rounded = (lost + 3 * rounding.EXACT_UNIT[dtype]) * root
    digit_error = (cells - 1) * (others + lost)
    # Beyond a quarter the selection of contexts could take one digit for another.
    told_apart = digit_error <= Fraction(1, 4)
    mean = rounding.sqrt_up((inside + leak + rounded) ** 2 + ramps)
    sup = constant * radius * root + leak + rounded
    return Ledger(
        cells=rounding.float_above(inside),
        ramps=rounding.float_above(ramps),
        leak=rounding.float_above(leak),
        rounding=rounding.float_above(rounded),
        ramp=ramp,
        sharpness=sharpness,
        mean=rounding.float_above(mean) if told_apart else math.inf,
        sup=rounding.float_above(sup) if told_apart else math.inf,
    )
