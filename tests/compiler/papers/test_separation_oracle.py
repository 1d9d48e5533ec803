"""Separations against values worked out by hand and against the notes' numbers for the papers' bounds."""

import math
from decimal import Decimal

import pytest

from helpers.separations import boltzmann_separation, possible_log10, rank_one_separation_log10
from promptreach.compiler.papers.separation import (
    paper_separation_log10,
    separation_of,
    softmax_shares,
)
from promptreach.errors import InputError


def test_the_papers_bounds_have_the_values_of_the_notes():
    small = {"smallest": 1.0, "largest": 1.5, "apart": 0.5}
    assert paper_separation_log10(2, 2, 1, **small) == pytest.approx(-108, abs=1)
    assert paper_separation_log10(3, 2, 2, **small) == pytest.approx(-1097, abs=2)
    assert paper_separation_log10(5, 4, 4, **small) == pytest.approx(-33866, abs=20)
    assert rank_one_separation_log10(2, 2, 1, **small) == pytest.approx(-549, abs=6)


def test_a_separation_is_the_least_gap():
    found = separation_of([5, 100, 7, -3], 1)
    assert (found.count, found.largest, found.bits) == (4, 10.0, 6)
    assert found.apart_log10 == pytest.approx(math.log10(0.2))
    assert possible_log10(found) == pytest.approx(math.log10(10 / 3))
    assert separation_of([5, 5], 0).apart_log10 == -math.inf


def test_softmax_shares_keep_their_digits():
    shares = softmax_shares([Decimal(0), Decimal(-300)])
    assert sum(shares) == 1
    assert float(shares[1] / Decimal(-300).exp()) == pytest.approx(1, rel=1e-15)


def test_the_boltzmann_map_of_two_out_of_three_is_worked_out_by_hand():
    # Sets {1,2}, {1,3}, {2,3} at sharpness log 2 to six digits: means (1+2w)/(1+w) with w = e^s, and so on.
    w = math.exp(0.7)
    means = sorted([(1 + 2 * w) / (1 + w), (1 + 3 * w**2) / (1 + w**2), (2 + 3 * w) / (1 + w)])
    found = boltzmann_separation(3, 2, 0.7)
    assert found.count == 3
    assert found.apart_log10 == pytest.approx(math.log10(min(means[1] - means[0], means[2] - means[1])), abs=1e-9)


def test_floats_fail_where_exact_numbers_still_tell_sets_apart():
    found = boltzmann_separation(12, 6, 6.0)
    assert -60 < found.apart_log10 < -16
    assert found.bits > 53
    assert found.apart_log10 < possible_log10(found)


def test_bad_arguments_are_named():
    with pytest.raises(InputError) as error:
        paper_separation_log10(0, 1, 0, 0.0, 1.0, 0.0)
    assert [fault.where for fault in error.value.faults] == [
        "vocabulary",
        "length",
        "dim",
        "smallest, largest",
        "apart",
    ]
    with pytest.raises(InputError, match="at least 2"):
        separation_of([1], 0)
    for length, sharpness in ((0, 1.0), (3, 1.0), (2, 0.0)):
        with pytest.raises(InputError):
            boltzmann_separation(3, length, sharpness)
