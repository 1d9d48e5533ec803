"""The separation of a generic rank-one softmax map, the Boltzmann operator on which Kajitsuka & Sato build."""

import itertools
import math
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, localcontext

from promptreach.compiler.papers.separation import Separation, separation_of
from promptreach.errors import Fault, raise_if_any


def boltzmann_separation(vocabulary: int, length: int, sharpness: float, digits: int = 400) -> Separation:
    """What a generic rank-one softmax map achieves: tokens are the numbers 1..vocabulary, score and value the token.

    The id of a set of `length` distinct tokens is their softmax mean sum a exp(s a) / sum exp(s a), with s the
    sharpness: the Boltzmann operator on which Kajitsuka & Sato build. Floats fail early: two sets that differ in their
    least token differ by about exp(-s vocabulary).

    Args:
        vocabulary: distinct tokens.
        length: tokens of a set, at most `vocabulary`.
        sharpness: s, in nats per unit.
        digits: decimal digits that ids are computed with.

    Raises:
        InputError: for a length out of range or a sharpness that is not positive.
    """
    faults = []
    if not 1 <= length < vocabulary:
        faults.append(Fault("length", str(length), f"1 to {vocabulary - 1}, so that there are sets to tell apart"))
    if not 0 < sharpness < math.inf:
        faults.append(Fault("sharpness", f"{sharpness}", "a positive number"))
    raise_if_any(faults)
    with localcontext(Context(prec=digits + 10, Emax=MAX_EMAX, Emin=MIN_EMIN)):
        weights = {token: (Decimal(sharpness) * (token - vocabulary)).exp() for token in range(1, vocabulary + 1)}
        ids = []
        for tokens in itertools.combinations(weights, length):
            mass = sum((weights[token] for token in tokens), Decimal(0))
            mean = sum((token * weights[token] for token in tokens), Decimal(0)) / mass
            ids.append(int(mean.scaleb(digits)))
    return separation_of(ids, digits)


def rank_one_separation_log10(
    vocabulary: int, length: int, dim: int, smallest: float, largest: float, apart: float
) -> float:
    """log10 of the separation that Kajitsuka & Sato prove for rank-one softmax attention (constants from memory, 80 %).

    2 (log n)^2 eps^2 r_min / (r_max^2 (|V|+1)^4 (2 log n + 3) pi d) times
    exp(-(|V|+1)^4 (2 log n + 3) pi d r_max^2 / (4 eps r_min)). Arguments: `paper_separation_log10`.
    """
    rate = (vocabulary + 1) ** 4 * (2 * math.log(length) + 3) * math.pi * dim
    factor = 2 * math.log(length) ** 2 * apart**2 * smallest / (largest**2 * rate)
    return math.log10(factor) - rate * largest**2 / (4 * apart * smallest) / math.log(10)


def possible_log10(found: Separation) -> float:
    """log10 of the best that any map into [0, largest] can do with so many ids."""
    return math.log10(found.largest / max(found.count - 1, 1))
