"""Prompt lengths against the papers' values and against families of functions that can be listed."""

import dataclasses
import itertools
import math
import time
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.changed_certificates import changed_fields, changed_witnesses
from helpers.tampering import damaged, said_otherwise
from promptreach.certificate import Certificate, Evidence, Side
from promptreach.errors import InputError
from promptreach.limits.counting.lengths import prompt_length


@pytest.mark.parametrize(
    ("dim", "tokens", "tol", "expected"), [(1, 1, 0.5, 4), (1, 2, 0.5, 64), (2, 2, 0.5, 8192), (1, 1, 0.1, 20)]
)
def test_small_table_lengths_are_the_papers(dim, tokens, tol, expected):
    length = prompt_length(dim, tokens, 1.0, tol)
    assert length.sufficient_tokens == length.sufficient.value == expected
    assert length.sufficient_log10 == pytest.approx(math.log10(expected), rel=1e-12)


@pytest.mark.parametrize(("dim", "tokens", "power"), [(2, 4, 14.6), (8, 16, 302)])
def test_large_table_lengths_are_the_papers(dim, tokens, power):
    length = prompt_length(dim, tokens, 1.0, 0.1)
    assert length.sufficient_log10 == pytest.approx(power, abs=0.7 if power > 100 else 0.05)


def test_lengths_beyond_every_float_stay_on_their_side():
    length = prompt_length(768, 512, 1.0, 0.01)
    assert length.sufficient.value == math.inf
    assert math.isfinite(length.necessary.value)
    assert length.sufficient_log10 > length.necessary_log10 > 308
    assert length.sufficient_tokens is None
    assert length.necessary_tokens is None


def assert_confirmed(certificate: Certificate) -> None:
    assert certificate.recheck()


def test_a_wrong_certificate_is_not_confirmed():
    length = prompt_length(2, 2, 1.0, 0.1)
    for right, factor in ((length.sufficient, 1e-4), (length.necessary, 2.0)):
        with pytest.raises(AssertionError):
            assert_confirmed(Certificate.from_dict({**right.to_dict(), "value": factor * right.value}))


@settings(max_examples=60)
@given(
    st.integers(1, 6),
    st.integers(1, 6),
    st.floats(0, 20),
    st.floats(1e-4, 2),
    st.sampled_from([1.0, 1.5, 2.0, math.inf]),
)
def test_both_lengths_have_their_side_and_are_confirmed(dim, tokens, lipschitz, tol, alpha):
    length = prompt_length(dim, tokens, lipschitz, tol, alpha)
    assert (length.sufficient.side, length.necessary.side) == (Side.UPPER, Side.LOWER)
    assert length.sufficient.evidence is length.necessary.evidence is Evidence.PROVED
    assert_confirmed(length.sufficient)
    assert_confirmed(length.necessary)
    restored = Certificate.from_dict(length.necessary.to_dict())
    assert_confirmed(restored)
    # A table of 32-bit entries is itself a way to write down every function, so it cannot be too short.
    assert length.necessary_log10 <= length.sufficient_log10
    assert prompt_length(dim, tokens, lipschitz, tol / 2, alpha).necessary_log10 >= length.necessary_log10
    assert prompt_length(dim, tokens, lipschitz, tol, alpha, precision=16.0).necessary_log10 >= length.necessary_log10


def family(certificate: Certificate):
    """The functions that the certificate counts, each as its values at the grid points: all of them, at 1x1."""
    seen = certificate.witness
    levels = [level / seen["steps"] for level in range(int(seen["steps"]) + 1)] if seen["steps"] else [0.0]
    return list(itertools.product(levels, repeat=int(seen["points"])))


@pytest.mark.parametrize(("lipschitz", "tol"), [(1.0, 0.2), (1.0, 0.1), (3.0, 0.3), (2.0, 0.11)])
def test_the_functions_counted_exist_and_are_told_apart(lipschitz, tol):
    """At dim = tokens = 1: every member has slopes up to C, stays in [0, 1], and two members differ by over 2 tol."""
    certificate = prompt_length(1, 1, lipschitz, tol, precision=1.0).necessary
    members, steps, points = family(certificate), certificate.witness["steps"], int(certificate.witness["points"])
    # Exactly: a step h above 2 tol that keeps the range in [0, 1] and the steepest members within C on the grid.
    gap = 2 * Fraction(tol)
    largest = min(Fraction(1, steps), Fraction(lipschitz) / (steps * max(points - 1, 1)) if points > 1 else Fraction(1))
    assert largest > gap
    height = steps * (gap + largest) / 2
    levels = set(itertools.chain.from_iterable(members))
    apart = {(a, b): height * abs(Fraction(a) - Fraction(b)) > gap for a in levels for b in levels}
    for first, second in itertools.combinations(members, 2):
        assert any(apart[pair] for pair in zip(first, second, strict=True))
    # Prompts of one-bit tokens: 2^0 + ... + 2^(m-1) of fewer than m tokens cannot be as many.
    needed = int(certificate.value)
    assert sum(2**k for k in range(needed)) < len(members)


@pytest.mark.parametrize(("lipschitz", "tol"), [(1.0, 0.5), (2.0, 0.25), (1.0, 0.2)])
def test_a_table_of_sufficient_length_holds_every_function(lipschitz, tol):
    """At dim = tokens = 1, for random piecewise linear f: the value at each cell's centre is within tol all over it."""
    cells = prompt_length(1, 1, lipschitz, tol).sufficient_tokens
    generator = torch.Generator().manual_seed(0)
    x = torch.linspace(0, 1, 2001, dtype=torch.float64)
    for _ in range(20):
        slopes = lipschitz * (2 * torch.rand(2000, generator=generator, dtype=torch.float64) - 1).sign()
        f = torch.cat([torch.zeros(1, dtype=torch.float64), (slopes / 2000).cumsum(0)])
        cell = (x * cells).floor().clamp(max=cells - 1)
        centre = ((cell + 0.5) / cells * 2000).round().long()
        assert float((f - f[centre]).abs().max()) <= tol


def test_wide_tokens_count_as_the_bits_they_hold():
    wide, precise = prompt_length(2, 2, 1.0, 0.1, hidden_size=20), prompt_length(2, 2, 1.0, 0.1, precision=320)
    assert wide.necessary_tokens == precise.necessary_tokens < prompt_length(2, 2, 1.0, 0.1).necessary_tokens
    assert wide.necessary.recheck()


def test_a_bound_is_only_claimed_below_half_the_range():
    nothing = prompt_length(4, 4, 100.0, 0.5)
    assert (nothing.necessary_tokens, nothing.necessary_log10) == (0, -math.inf)
    assert nothing.necessary.witness["steps"] == 0
    assert prompt_length(1, 1, 0.0, 0.01).sufficient_tokens == 1


@pytest.mark.parametrize(("lipschitz", "tol"), [(0.0, 1e30), (1e-200, 1e200), (1e300, 1e-300), (0, 1)])
def test_sizes_far_apart_are_welcome(lipschitz, tol):
    found = prompt_length(2, 2, lipschitz, tol)
    assert found.sufficient.recheck()
    assert found.necessary.recheck()


def test_claims_name_the_very_arguments():
    found = prompt_length(1, 1, 1.2345678, 0.123456789, precision=16.7654321)
    for certificate in (found.sufficient, found.necessary):
        assert "(C=1.2345678, tol=0.123456789, alpha=2)" in certificate.claim
    assert "16.7654321 bits each" in found.necessary.claim


@pytest.mark.parametrize("precision", [1, 1.5, 2, 8, 32])
@pytest.mark.parametrize("hidden", [1, 2, 5])
def test_what_is_necessary_never_exceeds_what_suffices_at_any_precision(precision, hidden):
    for dim, lipschitz, tol in [(1, 1.0, 1e-6), (2, 0.01, 1e-9), (1, 0.0, 1e-5), (2, 3.0, 0.1), (1, 0.6, 1e-3)]:
        found = prompt_length(dim, 1, lipschitz, tol, precision=precision, hidden_size=hidden)
        assert found.necessary.value <= found.sufficient.value
        assert found.sufficient.rechecked
        assert found.necessary.rechecked


def test_a_certificate_of_lengths_that_was_changed_is_refused_within_a_second():
    found = prompt_length(1, 2, 1.5, 0.125, precision=8)
    for certificate, wrong in ((found.sufficient, 0.1), (found.necessary, 1.1)):
        for what, other in [*changed_fields(certificate), *changed_witnesses(certificate)]:
            start = time.perf_counter()
            assert not other.recheck(), what
            assert time.perf_counter() - start < 1
        for value in (wrong * certificate.value, -1.0, -math.inf):
            assert not dataclasses.replace(certificate, value=value).recheck()
    assert not dataclasses.replace(found.necessary, value=math.inf).recheck()


def test_every_bad_argument_is_named():
    with pytest.raises(InputError) as error:
        prompt_length(0, 0, -1.0, math.nan, 0.5, 0.0, 0)
    assert [fault.where for fault in error.value.faults] == [
        "dim",
        "tokens",
        "hidden_size",
        "lipschitz",
        "tol",
        "alpha",
        "precision",
    ]


def test_a_length_beyond_whole_float64_numbers_is_rechecked():
    found = prompt_length(dim=5, tokens=3, lipschitz=17.042416866690413, tol=0.4409645083450593, alpha=1)
    assert found.necessary.value > 2**53
    assert found.necessary.recheck()


def test_the_tables_number_lies_between_what_counting_asks_and_what_the_table_takes():
    assert prompt_length(1, 4, 1.0, 0.1).index_tokens == 1_383_017
    # 40^4 cells with 4 entries of 20 levels, 32 bits a token.
    assert math.ceil(4 * 40**4 * math.log2(20) / 32) == 1_383_017
    for dim, tokens, lipschitz, tol, alpha, precision, hidden in itertools.product(
        (1, 2), (1, 3), (0.0, 3.0), (0.01, 0.3, 2.0), (1.0, math.inf), (1.0, 7.3, 32.0), (None, 5)
    ):
        found = prompt_length(dim, tokens, lipschitz, tol, alpha, precision, hidden)
        assert found.index.rechecked
        assert found.necessary_log10 <= found.index_log10 <= found.sufficient_log10


def test_a_changed_index_length_is_refused():
    index = prompt_length(1, 2, 1.0, 0.3).index
    assert index.recheck()
    assert [what for what, other in said_otherwise(index) if other.recheck()] == []
    assert [what for what, other in damaged(index) if other.recheck()] == []
    for value in (1.0, 0.0, -math.inf):
        assert not dataclasses.replace(index, value=value).recheck()
