"""The counting bounds, tried on every text of a toy world: all prompts listed, the best one taken for each text."""

import dataclasses
import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers.tampering import damaged, said_otherwise
from promptreach.capacity.counting import counting_bound
from promptreach.certificate import Certificate, Evidence, Side
from promptreach.errors import InputError

worlds = st.tuples(st.integers(1, 5), st.integers(2, 4), st.integers(1, 4), st.floats(0.05, 3.0), st.integers(0, 999))


def best_losses(bits: int, vocabulary: int, length: int, sharpness: float, seed: int) -> torch.Tensor:
    """Bits of the best prompt's loss for each of all texts: 2^bits prompts, each with probabilities of its own."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(2**bits, vocabulary**length, generator=generator, dtype=torch.float64) / sharpness
    return -torch.log_softmax(scores, dim=1).max(dim=0).values / math.log(2)


@given(worlds)
def test_no_choice_of_prompts_stores_more_than_its_bits(world: tuple[int, int, int, float, int]) -> None:
    bits, vocabulary, length, sharpness, seed = world
    stored = length * math.log2(vocabulary) - best_losses(bits, vocabulary, length, sharpness, seed)
    bound = counting_bound(entries=bits, precision=1, vocabulary=vocabulary)
    assert float(stored.mean()) <= bound.bits.value
    for excess in (0.5, 1.0, 3.0):
        assert float((stored >= bits + excess).double().mean()) <= 2**-excess


def test_the_bound_on_bits_is_reached_where_every_prompt_is_one_text() -> None:
    certain = torch.full((2**4, 2**4), -math.inf).fill_diagonal_(0.0)
    stored = 4 + torch.log_softmax(certain, dim=1).max(dim=0).values / math.log(2)
    assert float(stored.mean()) == counting_bound(4, 1, 2).bits.value


@given(worlds)
def test_beyond_the_bound_on_lengths_some_text_is_given_by_no_prompt(world: tuple[int, int, int, float, int]) -> None:
    bits, vocabulary, *_, seed = world
    length = int(counting_bound(bits, 1, vocabulary).length.value) + 1
    draw = torch.Generator().manual_seed(seed)
    given_texts = torch.randint(vocabulary, (2**bits, length), generator=draw).unique(dim=0)
    assert len(given_texts) < vocabulary**length


@given(st.integers(1, 400), st.integers(1, 64), st.integers(2, 70_000))
def test_the_length_is_the_last_that_counting_allows(entries: int, precision: int, vocabulary: int) -> None:
    certificate = counting_bound(entries, precision, vocabulary).length
    assert (
        vocabulary ** int(certificate.value) <= 2 ** (entries * precision) < vocabulary ** (int(certificate.value) + 1)
    )


def both(entries: int, precision: int, vocabulary: int) -> list[Certificate]:
    bound = counting_bound(entries, precision, vocabulary)
    return [bound.bits, bound.length]


@pytest.mark.parametrize(
    "size", [(1, 1, 2), (576, 32, 49152), (8 * 11520, 16, 49152), (64 * 8192, 16, 128256), (3, 7, 128)]
)
def test_certificates_are_confirmed_and_tighter_ones_are_not(size: tuple[int, int, int]) -> None:
    for certificate in both(*size):
        assert (certificate.side, certificate.evidence) == (Side.UPPER, Evidence.PROVED)
        assert certificate.recheck()
        assert Certificate.from_dict(certificate.to_dict()).recheck()
        assert not dataclasses.replace(certificate, value=certificate.value - 1).recheck()
        more = {**certificate.witness, "entries": 2 * certificate.witness["entries"]}
        assert not dataclasses.replace(certificate, witness=more).recheck()


@pytest.mark.parametrize("size", [(2**53, 1, 2), (2**53 - 1, 3, 2), (3 * 2**51 + 1, 5, 3), (2**53, 2**53, 2**53)])
def test_above_whole_float64_numbers_the_bounds_stay_above(size: tuple[int, int, int]) -> None:
    entries, precision, vocabulary = size
    bits, length = both(*size)
    assert Fraction(bits.value) >= entries * precision
    near = Fraction(entries * precision) / Fraction(math.log2(vocabulary))
    assert near * (1 - Fraction(2) ** -50) - 1 <= Fraction(length.value) <= near * (1 + Fraction(2) ** -50)
    for certificate in (bits, length):
        assert certificate.recheck()
        below = math.nextafter(certificate.value, 0)
        assert not dataclasses.replace(certificate, value=math.nextafter(below, 0)).recheck()


@pytest.mark.parametrize("size", [(3, 7, 128), (64 * 8192, 16, 128256)])
def test_counts_that_were_changed_are_refused(size: tuple[int, int, int]) -> None:
    for certificate in both(*size):
        assert [name for name, changed in said_otherwise(certificate) if changed.recheck()] == []
        assert [name for name, changed in damaged(certificate) if changed.recheck()] == []
        for value in (-math.inf, -5.0, -1.0, -0.5, 0.0, math.inf):
            assert not dataclasses.replace(certificate, value=value).recheck()
        for name in certificate.witness:
            for step in (-1, 1):
                other = {**certificate.witness, name: certificate.witness[name] + step}
                assert not dataclasses.replace(certificate, witness=other).recheck()


@pytest.mark.parametrize("wrong", [{"entries": 0}, {"precision": -3}, {"vocabulary": 1}, {"entries": 2**53 + 1}])
def test_counts_that_are_none_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        counting_bound(**{"entries": 8, "precision": 16, "vocabulary": 40, **wrong})


def test_the_published_numbers() -> None:
    """16 bits an entry over log2 of the vocabulary: Pythia-160M and Llama-3.2-1B, hidden sizes 768 and 2048."""
    assert counting_bound(768, 16, 50304).length.value == 786  # 787 in the paper, rounded
    assert counting_bound(2048, 16, 128256).length.value == 1931
