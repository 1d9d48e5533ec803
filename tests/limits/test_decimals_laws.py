"""Rounding outward: what is claimed to lie above lies above, at every size."""

import math
import sys
from decimal import Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptreach import rounding as decimals

positive = st.decimals(min_value="1e-300", max_value="1e300", allow_nan=False, allow_infinity=False, places=None)


def test_widening_widens() -> None:
    assert decimals._NARROWER < 1 < decimals._WIDER
    with localcontext(decimals.WIDE):
        assert decimals._WIDER - 1 == 1 - decimals._NARROWER == Decimal("1e-40")


@given(positive)
def test_rounded_up_covers_the_error_of_a_formula(value: Decimal) -> None:
    with localcontext(decimals.WIDE):
        truth = value * (1 + Decimal("9e-41"))
        assert Decimal(decimals.round_up(value)) >= truth
    # Whatever the context of the caller.
    assert Decimal(decimals.round_up(value)) >= truth


@pytest.mark.parametrize("number", [1, 7, 10**6, 10**25])
def test_a_whole_number_that_may_be_a_little_more_is_rounded_away_from_it(number: int) -> None:
    assert decimals.ceil(Decimal(number)) == number + 1
    assert decimals.ceil_below(Decimal(number)) == number
    below = decimals.WIDE.subtract(Decimal(number), Decimal("1e-45"))
    assert decimals.ceil(below) == number + 1
    assert decimals.ceil_below(decimals.WIDE.add(Decimal(number), Decimal("1e-45"))) == number


@given(positive)
def test_float64_neighbours_stand_on_their_sides(value: Decimal) -> None:
    low, high = decimals.float_below(value), decimals.float_above(value)
    assert Decimal(low) <= value <= Decimal(high)
    assert high in (low, math.nextafter(low, math.inf))


def test_beyond_float64_lie_its_largest_number_and_infinity() -> None:
    assert decimals.float_below(Decimal("1e400")) == sys.float_info.max
    assert decimals.float_above(Decimal("1e400")) == math.inf


@given(st.floats(allow_nan=False) | st.integers())
def test_numbers_in_claims_read_back_as_themselves(number: float | int) -> None:
    assert type(number)(decimals.shown(number)) == number


def test_short_numbers_are_shown_short() -> None:
    assert [decimals.shown(number) for number in (2, 2.0, 0.1, 1e-9, math.inf)] == ["2", "2", "0.1", "1e-09", "inf"]
