"""The separation of a contextual map's ids: as the papers prove it, and as it is achieved, in log10.

Papers B and Kajitsuka & Sato prove separations of the form exp(-|V|^4 ...), far below every float. What a constructed
map achieves is counted here exactly: softmax weights as 50-digit decimals of the weights as they stand, ids as whole
numbers in units of 10^-45.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, localcontext

from promptreach.errors import Fault, raise_if_any

WIDE = Context(prec=60, Emax=MAX_EMAX, Emin=MIN_EMIN)
"""What exact softmax weights are computed in."""


def paper_separation_log10(
    vocabulary: int, length: int, dim: int, smallest: float, largest: float, apart: float
) -> float:
    """log10 of the separation that paper B proves for softmax attention of any rank (Lemma 2.2, from memory, 85 %).

    exp(-5 |V|^4 d kappa gamma_max log(L) / epsilon), kappa = gamma_max / gamma_min. A lower bound on what some map
    achieves; it says nothing of a given one.

    Args:
        vocabulary: |V|, distinct tokens over all sequences.
        length: L, tokens of a sequence, prompt included.
        dim: d.
        smallest, largest: gamma_min and gamma_max, between which the norms of all tokens lie.
        apart: epsilon, the least distance between two distinct tokens.

    Raises:
        InputError: for a quantity that is not positive, or norms out of order.

    Reference: Hu et al. 2025, Lemma 2.2; theorem key ``contextual-separation``.
    """
    _require(vocabulary, length, dim, smallest, largest, apart)
    exponent = 5 * vocabulary**4 * dim * (largest / smallest) * largest * math.log(length) / apart
    return -exponent / math.log(10)


def _require(vocabulary: int, length: int, dim: int, smallest: float, largest: float, apart: float) -> None:
    faults = [
        Fault(name, f"{value}", f"at least {least}")
        for name, value, least in (("vocabulary", vocabulary, 1), ("length", length, 2), ("dim", dim, 1))
        if value < least
    ]
    if not 0 < smallest <= largest < math.inf:
        faults.append(Fault("smallest, largest", f"{smallest}, {largest}", "0 < smallest <= largest"))
    if not 0 < apart < math.inf:
        faults.append(Fault("apart", f"{apart}", "a positive number"))
    raise_if_any(faults)


@dataclass(frozen=True)
class Separation:
    """What a contextual map achieves on a finite set of contexts, all of it exact before the last rounding.

    Attributes:
        count: ids.
        least: the least distance between two of them, rounded to float64; 0 if it is below every float.
        apart_log10: its log10, at any size; -inf if two are equal.
        largest: the largest of them in absolute value.
        bits: binary digits that an id needs so that all stay apart: log2(largest / least distance), rounded up.
    """

    count: int
    least: float
    apart_log10: float
    largest: float
    bits: int


def separation_of(ids: Sequence[int], digits: int) -> Separation:
    """The separation of ids given as whole numbers in units of 10^-digits.

    Raises:
        InputError: for fewer than two ids.
    """
    if len(ids) < 2:
        raise_if_any([Fault("ids", f"{len(ids)}", "at least 2, for a distance between two of them")])
    ordered = sorted(ids)
    least = min(right - left for left, right in itertools.pairwise(ordered))
    largest = max(abs(ordered[0]), abs(ordered[-1]))
    return Separation(
        count=len(ordered),
        least=float(Decimal(least).scaleb(-digits)),
        apart_log10=math.log10(least) - digits if least else -math.inf,
        largest=float(Decimal(largest).scaleb(-digits)),
        bits=math.ceil(math.log2(largest) - math.log2(least)) if least else 0,
    )


def softmax_shares(scores: Sequence[Decimal]) -> list[Decimal]:
    """The softmax of scores, to 50 digits and more."""
    with localcontext(WIDE):
        top = max(scores)
        weights = [(score - top).exp() for score in scores]
        total = sum(weights, Decimal(0))
        return [weight / total for weight in weights]
