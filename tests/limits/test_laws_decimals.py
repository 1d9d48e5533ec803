"""Rounding outward: what is claimed to lie above lies above, at every size."""

from decimal import Decimal, localcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptreach.limits import decimals

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
