"""Rounding outward: what is claimed to lie above lies above, at every size."""

import math
import sys
from decimal import Decimal, localcontext
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from promptreach import rounding
from promptreach.evidence import Side

positive = st.decimals(min_value="1e-300", max_value="1e300", allow_nan=False, allow_infinity=False, places=None)


def test_narrowing_narrows_in_every_context() -> None:
    assert rounding.narrowed(Decimal(1)) < 1
    with localcontext(rounding.WIDE):
        assert 1 - rounding.narrowed(Decimal(1)) == Decimal("1e-40")


@given(positive)
def test_rounded_up_covers_the_error_of_a_formula(value: Decimal) -> None:
    with localcontext(rounding.WIDE):
        truth = value * (1 + Decimal("9e-41"))
        assert Decimal(rounding.round_up(value)) >= truth
    # Whatever the context of the caller.
    assert Decimal(rounding.round_up(value)) >= truth


@pytest.mark.parametrize("number", [1, 7, 10**6, 10**25])
def test_a_whole_number_that_may_be_a_little_more_is_rounded_away_from_it(number: int) -> None:
    assert rounding.ceil(Decimal(number)) == number + 1
    assert rounding.ceil_below(Decimal(number)) == number
    below = rounding.WIDE.subtract(Decimal(number), Decimal("1e-45"))
    assert rounding.ceil(below) == number + 1
    assert rounding.ceil_below(rounding.WIDE.add(Decimal(number), Decimal("1e-45"))) == number


@given(positive)
def test_float64_neighbours_stand_on_their_sides(value: Decimal) -> None:
    low, high = rounding.float_below(value), rounding.float_above(value)
    assert Decimal(low) <= value <= Decimal(high)
    assert high in (low, math.nextafter(low, math.inf))


@pytest.mark.parametrize("value", ["1e-300", "2.2e-308", "1.1638e-310", "3e-323", "1e-330"])
def test_rounding_up_ends_among_the_smallest_numbers(value: str) -> None:
    """Thirty bits of a subnormal number lie below what a float64 can step by."""
    with localcontext(rounding.WIDE):
        for share in (Decimal(1), 1 + Decimal("1e-9"), 1 + Decimal(1) / 3):
            high = Decimal(value) * share
            assert Decimal(rounding.round_up(high)) > high


def test_beyond_float64_lie_its_largest_number_and_infinity() -> None:
    assert rounding.float_below(Decimal("1e400")) == sys.float_info.max
    assert rounding.float_above(Decimal("1e400")) == math.inf


@given(st.floats(allow_nan=False) | st.integers())
def test_numbers_in_claims_read_back_as_themselves(number: float | int) -> None:
    assert type(number)(rounding.shown(number)) == number


def test_short_numbers_are_shown_short() -> None:
    assert [rounding.shown(number) for number in (2, 2.0, 0.1, 1e-9, math.inf)] == ["2", "2", "0.1", "1e-09", "inf"]


@given(st.fractions(min_value=0, max_value=10**6))
def test_fractions_are_rounded_to_the_next_float64_and_never_down(value: Fraction) -> None:
    high = rounding.float_above(value)
    assert Fraction(math.nextafter(high, -math.inf)) < value <= Fraction(high)
    assert value <= rounding.sqrt_up(value) ** 2 <= value * (1 + Fraction(1, 2**59))


def test_roundings_grow_with_their_number() -> None:
    unit = Fraction(1, 2**53)
    assert rounding.exact_gamma(0) == 0
    assert 8 * unit < rounding.exact_gamma(8) < rounding.exact_gamma(9) < Fraction("9.01") * unit
    assert rounding.exact_gamma(8) <= Fraction(rounding.gamma(8)) < rounding.exact_gamma(8, "float32")
    with pytest.raises(ValueError, match="leave no accuracy in float32"):
        rounding.exact_gamma(2**24, "float32")


@pytest.mark.parametrize("nats", [0, 1, 20, 700, 10**6])
def test_exponentials_are_rounded_up(nats: int) -> None:
    with localcontext(rounding.WIDE):
        assert rounding.exp_up(nats) >= Fraction(Decimal(-min(nats, 10**4)).exp())


def test_roundings_are_counted_upwards() -> None:
    assert rounding.unit(torch.float32) == 2.0**-24
    assert rounding.unit(torch.float64) == 2.0**-53
    for count in (1, 100, 10_000):
        assert (1 + rounding.unit(torch.float32)) ** count - 1 <= rounding.gamma(count, torch.float32)
    assert rounding.gamma(2**24, torch.float32) == math.inf


SIZES = st.floats(allow_nan=False, allow_infinity=False) | st.integers() | st.fractions()


@given(SIZES, st.integers(1, 6), st.booleans())
def test_a_bound_in_a_sentence_is_a_bound_too(value: float | int | Fraction, digits: int, percent: bool) -> None:
    truth = Fraction(value) * (100 if percent else 1)
    below, above = (
        Fraction(rounding.shown_bound(value, side, digits, percent=percent).replace(",", ""))
        for side in (Side.LOWER, Side.UPPER)
    )
    if isinstance(value, float):  # what reads back as this very float is the number itself
        share = 100 if percent else 1
        assert min(below / share, Fraction(value)) == below / share or float(below / share) == value
        assert max(above / share, Fraction(value)) == above / share or float(above / share) == value
    else:
        assert below <= truth <= above
    assert above - below <= max(20 * abs(truth) / 10**digits, 1 if abs(truth) > 900 else 0)


@pytest.mark.parametrize(
    ("value", "side", "sentence"),
    [
        (Fraction(5, 6), Side.UPPER, "83.4"),
        (Fraction(5, 6), Side.LOWER, "83.3"),
        (Fraction(5, 6), Side.EXACT, "about 83.3"),
        (0.5, Side.EXACT, "50"),
        (-0.0012345, Side.UPPER, "-0.123"),
        (123.4561, Side.UPPER, "12,346"),
        (9.999, Side.UPPER, "1,000"),
        (9.994, Side.LOWER, "999"),
        (0, Side.UPPER, "0"),
        (sys.float_info.max, Side.UPPER, "1.8e+310"),
        (0.55, Side.UPPER, "55"),
        (0.1, Side.LOWER, "10"),
        (math.inf, Side.UPPER, "infinity"),
        (-math.inf, Side.LOWER, "minus infinity"),
    ],
)
def test_shares_are_shown_as_percentages_of_their_side(value: float, side: Side, sentence: str) -> None:
    assert rounding.shown_bound(value, side, percent=True) == sentence


def test_the_smallest_numbers_keep_their_side() -> None:
    assert rounding.shown_bound(1.2345e-310, Side.UPPER) == "1.24e-310"
    assert rounding.shown_bound(1.2355e-310, Side.LOWER) == "1.23e-310"
