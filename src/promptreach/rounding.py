"""Rounding in proofs: what roundings of floating-point numbers add up to, and scalars rounded outward once, at the end.

Sums, products and quotients are those of IEEE arithmetic; a matrix product is a sum of products in some order, fused or
not, in the dtype of its operands; exp and sqrt are right to one unit in the last place. Every count of roundings is
rounded up. Bounds themselves are formed in float64 of numbers that are not negative, so that counting roundings is all
there is to do; or of 50-digit decimals; or of fractions, where the only roundings are those named here.

Every operation of the standard library's `decimal` is correctly rounded, exponentials and logarithms included, so a
formula of up to a thousand operations on positive numbers without cancellation errs by less than 1e-45 of its value.
Widening by 1e-40 of the value and then rounding outward to float64 covers that, at any size: exponents go far beyond
what a float64 holds.

Reference: Higham, Accuracy and Stability of Numerical Algorithms, chapter 3.
"""

import math
import sys
from decimal import MAX_EMAX, MIN_EMIN, ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Context, Decimal, localcontext
from fractions import Fraction
from typing import TypeVar

import torch

from promptreach.evidence import Side

_Exact = TypeVar("_Exact", Decimal, Fraction)

UNIT = 2.0**-53
"""The unit roundoff of float64."""

EXACT_UNIT = {"float64": Fraction(1, 2**53), "float32": Fraction(1, 2**24)}
"""Unit roundoff, the relative error of one operation, by dtype."""

LARGEST_WHOLE = {"float64": 2**53, "float32": 2**24}
"""Whole numbers up to here, and their sums and products that stay below it, are exact."""

EXP_UNITS = 8
"""The exponential of a softmax is taken to err by at most so many units in the last place."""

WIDE = Context(prec=50, Emax=MAX_EMAX, Emin=MIN_EMIN)
"""The context to compute decimals in, as ``with localcontext(WIDE):``."""

# In WIDE: the default context has 28 digits, in which both would be 1.
_WIDER = WIDE.add(Decimal(1), Decimal("1e-40"))
_NARROWER = WIDE.subtract(Decimal(1), Decimal("1e-40"))
_SHORT = 30
# e = 2.7182818284...: a little less, so that its negative powers are a little more.
_BELOW_E = Fraction(27182818284, 10**10)


def unit(dtype: torch.dtype) -> float:
    """The largest relative error of one rounding in `dtype`: half the gap between 1 and the next number."""
    return 0.5 * float(torch.finfo(dtype).eps)


def gamma(count: int, dtype: torch.dtype = torch.float64) -> float:
    """At least the relative error that `count` roundings in `dtype` add up to; infinite where that has no bound.

    Higham's gamma(n) = n u / (1 - n u), with an extra unit for the roundings made here.
    """
    share = (count + 1) * unit(dtype)
    return share / (1 - share) if share < 0.5 else math.inf


def exact_gamma(count: int, dtype: str = "float64") -> Fraction:
    """Higham's gamma(n) = n u / (1 - n u) itself: `count` roundings move a product of factors by at most this share.

    Raises:
        ValueError: where so many roundings leave no accuracy.
    """
    share = count * EXACT_UNIT[dtype]
    if share >= 1:
        raise ValueError(f"{count} operations leave no accuracy in {dtype}")
    return share / (1 - share)


def round_up(value: Decimal) -> float:
    """A float64 above the number that `value` approximates, with 30 significant bits; infinity beyond float64.

    Thirty bits and not 53, so that a second path, whose matrix norms differ by 1e-12, still stays below.
    """
    high = WIDE.multiply(value, _WIDER)
    near = float(high)
    if near == 0 or math.isinf(near):
        return near if high <= 0 or near else sys.float_info.min
    if near < 2.0**-990:  # thirty bits reach below the smallest float64, where a step would change nothing
        return float_above(WIDE.multiply(high, 1 + Decimal(2) ** -_SHORT))
    fraction, exponent = math.frexp(near)
    short = math.ceil(math.ldexp(fraction, _SHORT))
    while Decimal(math.ldexp(short, exponent - _SHORT)) < high:
        short += 1
    return math.ldexp(short, exponent - _SHORT)


def float_above(value: _Exact) -> float:
    """The least float64 that is not below this very number; infinity beyond float64 (an error for fractions)."""
    near = float(value)
    return near if math.isinf(near) or type(value)(near) >= value else math.nextafter(near, math.inf)


def float_below(value: Decimal) -> float:
    """The largest float64 that is not above this very decimal, for one that is not negative."""
    near = min(float(value), sys.float_info.max)
    return near if Decimal(near) <= value else math.nextafter(near, 0.0)


def shown(number: float | int) -> str:
    """The number for a sentence that is proved: what stands there reads back as exactly this number."""
    if isinstance(number, int):
        return str(number)
    short = f"{number:g}"
    return short if float(short) == number else repr(number)


_TOWARDS = {Side.LOWER: ROUND_FLOOR, Side.UPPER: ROUND_CEILING, Side.EXACT: ROUND_HALF_EVEN}


def shown_bound(value: float | int | Fraction, side: Side, digits: int = 3, *, percent: bool = False) -> str:
    """The number for a sentence, in so many digits, rounded to its own side so that what stands there is a bound too.

    Whole from 1,000 on. Digits that read back as exactly this number stay as they are, as those of `shown`; an EXACT
    number that so few digits do not hold is "about" the one that stands there.

    Args:
        percent: whether to show a share as a percentage, without the sign.
    """
    if isinstance(value, float) and not math.isfinite(value):
        return "not a number" if math.isnan(value) else "infinity" if value > 0 else "minus infinity"
    share = 100 if percent else 1
    exact, towards = Fraction(value) * share, _TOWARDS[side]
    if isinstance(value, float):
        with localcontext(Context(prec=digits, Emax=MAX_EMAX, Emin=MIN_EMIN)):
            plain = Fraction(Decimal(exact.numerator) / Decimal(exact.denominator)) / share
        exact = plain * share if abs(plain) <= sys.float_info.max and float(plain) == value else exact
    with localcontext(WIDE) as context:
        context.rounding = towards
        near = Decimal(exact.numerator) / Decimal(exact.denominator)
        context.prec = digits
        short = +near
        # A number just below a whole one may become four digits: from there on whole numbers.
        if 1000 <= abs(short) < Decimal(10) ** 15:
            context.prec = 50
            short = near.to_integral_value(towards)
        about = "about " if side is Side.EXACT and Fraction(short) != exact else ""
    if 1000 <= abs(short) < Decimal(10) ** 15:
        return f"{about}{short:,.0f}"
    short = short.normalize(WIDE)
    return about + (f"{short:f}" if -5 < short.adjusted() < 4 else f"{short:e}")


def narrowed(value: Decimal) -> Decimal:
    """A decimal certainly below the positive number that `value` approximates."""
    return WIDE.multiply(value, _NARROWER)


def ceil(value: Decimal) -> Decimal:
    """The least integer that is certainly not below the number that `value` approximates."""
    return WIDE.multiply(value, _WIDER).to_integral_value("ROUND_CEILING")


def ceil_below(value: Decimal) -> Decimal:
    """An integer that is certainly not above the ceiling of the number that `value` approximates."""
    return narrowed(value).to_integral_value("ROUND_CEILING")


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
    return Fraction(float_above(1 / _BELOW_E ** min(nats, 700)))
