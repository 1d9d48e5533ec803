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

from dataclasses import dataclass
from decimal import MAX_EMAX, ROUND_CEILING, ROUND_FLOOR, Context, Decimal, localcontext

from promptreach import rounding as decimals
from promptreach.certificate import Assumption, Certificate, Evidence, Independence, Side, rechecks


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
        vocabulary: how many different tokens a text is drawn from, at least 2.

    Reference: theorem keys ``stored-bits`` and ``recalled-texts``.
    """
    held = entries * precision
    witness = {"entries": entries, "precision": precision, "vocabulary": vocabulary}
    size = f"{entries} entries of {precision} bits each"
    counted = Assumption("the prompts are finitely many", True, f"at most 2^{held}")
    return CountingBound(
        bits=Certificate(
            claim=(
                f"For every model whose next-token probabilities sum to 1 and every choice of a prompt of {size} for "
                f"each text: averaged over all texts of n tokens out of {vocabulary}, the loss with the prompt is at "
                f"most value bits below n log2({vocabulary}), at every n."
            ),
            value=float(held),
            side=Side.UPPER,
            evidence=Evidence.PROVED,
            assumptions=(counted,),
            theorem="stored-bits",
            witness=witness,
            checker="capacity.counting:recheck_bits",
        ),
        length=Certificate(
            claim=(
                f"For every model and every n > value there is a text of n tokens out of {vocabulary} that greedy "
                f"decoding gives behind no prompt of {size}."
            ),
            value=_longest(held, vocabulary),
            side=Side.UPPER,
            evidence=Evidence.PROVED,
            assumptions=(counted,),
            theorem="recalled-texts",
            witness=witness,
            checker="capacity.counting:recheck_length",
        ),
    )


def _longest(held: int, vocabulary: int) -> float:
    """The largest n with vocabulary^n <= 2^held, or one more where the two are equal to 40 digits and not equal."""
    with localcontext(decimals.WIDE):
        ratio = held * Decimal(2).ln() / Decimal(vocabulary).ln()
        return float(int(ratio * (1 + Decimal("1e-40"))))  # the quotient errs by less than 1e-45 of itself


@rechecks(Independence.ARITHMETIC)
def recheck_bits(certificate: Certificate) -> bool:
    """Second path: the prompts counted entry by entry, as one integer, are no more than 2^value.

    The same value by other arithmetic: precision times entries, as the length of a product of that many powers of two.
    """
    seen = certificate.witness
    prompts: int = (1 << int(seen["precision"])) ** int(seen["entries"])
    return prompts.bit_length() - 1 <= certificate.value


@rechecks(Independence.ARITHMETIC)
def recheck_length(certificate: Certificate) -> bool:
    """Second path: the texts of value + 1 tokens, multiplied out and rounded down, outnumber the prompts."""
    seen = certificate.witness
    held = int(seen["entries"]) * int(seen["precision"])
    texts = _power(int(seen["vocabulary"]), int(certificate.value) + 1, ROUND_FLOOR)
    return texts > _power(2, held, ROUND_CEILING)


def _power(base: int, exponent: int, rounding: str) -> Decimal:
    """base^exponent by repeated squaring, every product rounded in that direction."""
    result = Decimal(1)
    with localcontext(Context(prec=80, rounding=rounding, Emax=MAX_EMAX)):
        for bit in f"{exponent:b}":
            result = result * result * (base if bit == "1" else 1)
    return result
