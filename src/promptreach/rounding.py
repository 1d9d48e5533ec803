"""Scalars in proofs: 50-digit decimals, rounded outward once, at the end.

Every operation of the standard library's `decimal` is correctly rounded, exponentials and logarithms included, so a
formula of up to a thousand operations on positive numbers without cancellation errs by less than 1e-45 of its value.
Widening by 1e-40 of the value and then rounding outward to float64 covers that, at any size: exponents go far beyond
what a float64 holds.
"""

import math
import sys
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal

WIDE = Context(prec=50, Emax=MAX_EMAX, Emin=MIN_EMIN)
"""What to compute in, as ``with localcontext(WIDE):``."""

# In WIDE: the default context has 28 digits, in which both would be 1.
_WIDER = WIDE.add(Decimal(1), Decimal("1e-40"))
_NARROWER = WIDE.subtract(Decimal(1), Decimal("1e-40"))
_SHORT = 30


def round_up(value: Decimal) -> float:
    """A float64 above the number that `value` approximates, with 30 significant bits; infinity beyond float64.

    Thirty bits and not 53, so that a second path, whose matrix norms differ by 1e-12, still stays below.
    """
    high = WIDE.multiply(value, _WIDER)
    near = float(high)
    if near == 0 or math.isinf(near):
        return near if high <= 0 or near else sys.float_info.min
    fraction, exponent = math.frexp(near)
    short = math.ceil(math.ldexp(fraction, _SHORT))
    while Decimal(math.ldexp(short, exponent - _SHORT)) < high:
        short += 1
    return math.ldexp(short, exponent - _SHORT)


def float_above(value: Decimal) -> float:
    """The least float64 that is not below this very decimal; infinity beyond float64."""
    near = float(value)
    return near if math.isinf(near) or Decimal(near) >= value else math.nextafter(near, math.inf)


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


def ceil(value: Decimal) -> Decimal:
    """The least integer that is certainly not below the number that `value` approximates."""
    return WIDE.multiply(value, _WIDER).to_integral_value("ROUND_CEILING")


def ceil_below(value: Decimal) -> Decimal:
    """An integer that is certainly not above the ceiling of the number that `value` approximates."""
    return WIDE.multiply(value, _NARROWER).to_integral_value("ROUND_CEILING")
