"""The papers' prompt length, by hand, in both of its forms."""

import math
from decimal import localcontext

import pytest

from promptreach.covering import covering_length, covering_length_log10
from promptreach.rounding import WIDE


@pytest.mark.parametrize(("dim", "tokens", "tol"), [(1, 1, 0.25), (1, 2, 0.5), (2, 2, 0.125), (1, 4, 0.5)])
def test_it_is_tokens_times_cells_to_the_number_of_axes(dim, tokens, tol):
    size = dim * tokens
    by_hand = tokens * (2 * math.sqrt(size) / tol) ** size
    with localcontext(WIDE):
        assert int(covering_length(dim, tokens, 1.0, tol)) == math.ceil(by_hand - 1e-6)
    assert covering_length_log10(dim, tokens, 1.0, tol) == pytest.approx(math.log10(by_hand))


def test_both_forms_agree_at_sizes_beyond_every_float():
    with localcontext(WIDE):
        exact = float(covering_length(8, 64, 1.0, 0.01).log10())
    assert covering_length_log10(8, 64, 1.0, 0.01) == pytest.approx(exact, rel=1e-12)


def test_there_is_a_vector_for_each_token_at_least():
    with localcontext(WIDE):
        assert covering_length(2, 3, 0.0, 1.0) == 3
    assert covering_length_log10(2, 3, 0.0, 1.0) == pytest.approx(math.log10(3))


def test_without_a_finite_norm_the_root_is_one():
    with localcontext(WIDE):
        assert covering_length(1, 2, 1.0, 0.5, math.inf) == 2 * 4**2
