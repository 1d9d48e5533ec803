"""Numbers and plain values in words."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptreach.report.formatting import counted, format_number, format_seconds, format_value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.7412, "0.741"),
        (1234567, "1,234,567"),
        (1234567.8, "1,234,568"),
        (1e-5, "1e-05"),
        (999.4, "999"),
        (999.7, "1,000"),
        (0.03, "0.03"),
        (-0.5, "-0.5"),
        (0, "0"),
        (2.0, "2"),
        (1e20, "1e+20"),
        (10**30, "1e+30"),
        (math.nan, "not a number"),
        (math.inf, "infinity"),
        (-math.inf, "minus infinity"),
        (None, "–"),
        (True, "yes"),
        (False, "no"),
    ],
)
def test_format_number(value: float | None, text: str) -> None:
    assert format_number(value) == text


@given(st.floats(min_value=-1e12, max_value=1e12))
def test_format_number_keeps_three_digits(value: float) -> None:
    shown = float(format_number(value).replace(",", ""))
    assert abs(shown - value) <= 0.005001 * abs(value)


def test_format_value_spells_out_lists_and_mappings() -> None:
    assert format_value({"fresh": 1180, "lengths": [1.0, None]}) == "fresh: 1,180; lengths: 1, –"
    assert format_value([]) == format_value({}) == "–"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "under 0.1 s"),
        (0.44, "0.4 s"),
        (9.97, "10 s"),
        (59.9, "1 min 0 s"),
        (200, "3 min 20 s"),
        (7500, "2 h 5 min"),
    ],
)
def test_format_seconds(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


def test_counts_are_in_words_that_fit() -> None:
    assert [counted(number, "text") for number in (0, 1, 2, 2000)] == ["0 texts", "1 text", "2 texts", "2,000 texts"]
