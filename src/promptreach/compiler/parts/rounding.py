"""Exact numbers rounded the safe way: what certificates of this room are computed with.

Sizes are fractions until the end, so the only roundings are those named here, and each goes up.
"""

import math
from fractions import Fraction

UNIT = {"float64": Fraction(1, 2**53), "float32": Fraction(1, 2**24)}
"""Unit roundoff: the relative error of one operation, by dtype."""

LARGEST_WHOLE = {"float64": 2**53, "float32": 2**24}
"""Whole numbers up to here, and their sums and products that stay below it, are exact."""

EXP_UNITS = 8
"""The exponential of the softmax is taken to err by at most so many units in the last place."""

# e = 2.7182818284...: a little less, so that its negative powers are a little more.
_BELOW_E = Fraction(27182818284, 10**10)


def up(value: Fraction) -> float:
    """The value as a float64, rounded up."""
    nearest = value.numerator / value.denominator
    return nearest if Fraction(nearest) >= value else math.nextafter(nearest, math.inf)


def sqrt_up(value: Fraction) -> Fraction:
    """At least the square root, by less than 2^-60 of it."""
    if value == 0:
        return Fraction(0)
    # Scale so that the integer square root keeps 64 bits, then step up.
    shift = max(0, 128 - value.numerator.bit_length() + value.denominator.bit_length())
    shift += shift % 2
    scaled = -((-value.numerator << shift) // value.denominator)
    return Fraction(math.isqrt(scaled - 1) + 1, 1 << (shift // 2))


def exp_up(nats: int) -> Fraction:
    """At least exp(-nats), for a whole number that is not negative."""
    # Beyond 700 nats a float64 would end; the bound at 700 serves there. Rounded up, so that the fraction stays short.
    power = 1 / _BELOW_E ** min(nats, 700)
    return Fraction(up(power))


def gamma(operations: int, dtype: str) -> Fraction:
    """Higham's gamma(n) = n u / (1 - n u): so many roundings move a product of factors by at most this, relatively."""
    share = operations * UNIT[dtype]
    if share >= 1:
        raise ValueError(f"{operations} operations leave no accuracy in {dtype}")
    return share / (1 - share)
