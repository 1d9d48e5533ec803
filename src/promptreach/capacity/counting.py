"""Upper bounds that no training can beat: a prompt of so many bits is one of so many prompts.

Virtual tokens whose entries have a precision take finitely many values, so that prompts can be counted; both bounds
here hold for every model and every way of choosing a prompt for a text. Real numbers without a precision could not be
bounded like this.

*Recall.* Greedy decoding makes one text of n tokens from each prompt. 2^B prompts make at most 2^B texts, and there are
V^n: if V^n > 2^B, some text is recalled by none.

*Bits.* Let q_p(x) be the probability that the model gives to text x behind prompt p, and p(x) the prompt chosen for x.
Over all texts, the sum of q_p(x)(x) is at most the sum over p and x of q_p(x), hence at most 2^B. By Jensen's
inequality the mean of -log2 q_p(x)(x) over texts is at least n log2 V - B: what a loss falls below the bits of its
source is, on average, at most B. By Markov's inequality a single random text exceeds B by t bits with probability at
most 2^-t.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any

from promptreach import rounding
from promptreach.certificate import Assumption, Certificate, Independence, Side, Statement, rechecks
from promptreach.witness import whole


@dataclass(frozen=True)
class CountingBound:
    """The most that virtual tokens of one form can hold.

    Attributes:
        bits: UPPER, on the bits stored of a text drawn uniformly, averaged over all such texts.
        length: UPPER, on the lengths at which every text can be recalled, in tokens.
    """

    bits: Certificate
    length: Certificate


def counting_bound(entries: int, precision: int, vocabulary: int) -> CountingBound:
    """The bounds for virtual tokens of `entries` numbers in all, of `precision` bits each.

    Args:
        vocabulary: how many different tokens a text is drawn from.

    Raises:
        InputError: for entries or bits that are no whole numbers from 1 to 2^53, or fewer than 2 tokens.

    Reference: theorem keys ``stored-bits`` and ``recalled-texts``.
    """
    witness = {"entries": entries, "precision": precision, "vocabulary": vocabulary}
    return CountingBound(
        bits=Certificate.stated(recheck_bits, rounding.float_above(Fraction(_held(witness))), witness),
        length=Certificate.stated(recheck_length, _longest(_held(witness), vocabulary), witness),
    )


def _held(witness: Mapping[str, Any]) -> int:
    """The bits of all entries together."""
    return whole(witness, "entries") * whole(witness, "precision")


def _longest(held: int, vocabulary: int) -> float:
    """The largest n with vocabulary^n <= 2^held, or one more where the two are equal to 40 digits and not equal.

    Whole numbers above 2^53 that are no float64 become the next one above.
    """
    with localcontext(rounding.WIDE):
        ratio = held * Decimal(2).ln() / Decimal(vocabulary).ln()
        longest = int(ratio * (1 + Decimal("1e-40")))  # the quotient errs by less than 1e-45 of itself
    return rounding.float_above(Fraction(longest))


def _bits(witness: Mapping[str, Any]) -> Statement:
    vocabulary = whole(witness, "vocabulary", 2)
    return Statement(
        claim=(
            f"For every model whose next-token probabilities sum to 1 and every choice of a prompt of {_size(witness)} "
            f"for each text: averaged over all texts of n tokens out of {vocabulary}, the loss with the prompt is at "
            f"most value bits below n log2({vocabulary}), at every n."
        ),
        side=Side.UPPER,
        theorem="stored-bits",
        assumptions=_counted(witness),
    )


def _length(witness: Mapping[str, Any]) -> Statement:
    return Statement(
        claim=(
            f"For every model and every n > value there is a text of n tokens out of {whole(witness, 'vocabulary', 2)} "
            f"that greedy decoding gives behind no prompt of {_size(witness)}."
        ),
        side=Side.UPPER,
        theorem="recalled-texts",
        assumptions=_counted(witness),
    )


def _size(witness: Mapping[str, Any]) -> str:
    return f"{witness['entries']} entries of {witness['precision']} bits each"


def _counted(witness: Mapping[str, Any]) -> tuple[Assumption]:
    return (Assumption("the prompts are finitely many", True, f"at most 2^{_held(witness)}"),)


@rechecks(Independence.ARITHMETIC, states=_bits)
def recheck_bits(certificate: Certificate) -> bool:
    """Second path: the same product, entry bits added up in fractions. At once at any size."""
    return bool(Fraction(certificate.value) / certificate.witness["precision"] >= certificate.witness["entries"])


@rechecks(Independence.ARITHMETIC, states=_length)
def recheck_length(certificate: Certificate) -> bool:
    """Second path: the texts of value + 1 tokens outnumber the prompts, by binary digits of log2 of the vocabulary.

    The digits come from squaring whole numbers, rounded down: no logarithm is taken. At once at any size.
    """
    tokens = math.floor(certificate.value) + 1
    return tokens >= 1 and tokens * _log2_below(certificate.witness["vocabulary"]) > _held(certificate.witness)


def _log2_below(number: int) -> Fraction:
    """The first 128 binary digits of log2, or a little less where the last of them are lost to rounding."""
    digits = number.bit_length() - 1
    mantissa = (number << 320) >> digits  # from 1 to 2, times 2^320
    for _ in range(128):
        mantissa = mantissa * mantissa >> 320
        is_two = mantissa >> 321
        digits, mantissa = 2 * digits + is_two, mantissa >> is_two
    return Fraction(digits, 2**128)
