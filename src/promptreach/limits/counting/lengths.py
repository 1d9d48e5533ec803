"""Soft tokens that a whole class of functions needs, and soft tokens that suffice: two numbers, never one.

The class: all f on [0,1]^(tokens x dim) with values there and |f(X) - f(X')| <= C |X - X'|, in the entrywise
alpha-norm. One backbone is fixed; the prompt alone selects f, to within `tol` at every input.

Notation
    letter      meaning                                                 paper B
    dim         size of a token                                         d
    tokens      tokens of the input                                     L
    lipschitz   C                                                       C
    tol         largest alpha-norm of the error                         epsilon
    cells       2 C (dim tokens)^(1/alpha) / tol, per axis              1/delta

Sufficient: a table with one vector of size dim for each token of each of cells^(dim tokens) grid cells. Necessary: as
many prompts as there are functions that `tol` tells apart. Derivations: docs/theory/lipschitz.md, sections 8 and 9.
"""

import math
from dataclasses import dataclass
from decimal import Decimal, localcontext

from promptreach import rounding
from promptreach.certificate import Assumption, Certificate, Evidence, Independence, Side, rechecks
from promptreach.covering import covering_length
from promptreach.errors import Fault, raise_if_any

LARGEST_COUNT = 10**18
"""Up to here, lengths are also given as whole numbers."""


@dataclass(frozen=True)
class PromptLength:
    """Two lengths in soft tokens, about different things.

    Attributes:
        sufficient: UPPER. Enough for one specially built backbone; says nothing of a given pretrained model, and not
            that fewer tokens fail.
        necessary: LOWER. No backbone manages every function with fewer tokens at the stated precision.
        sufficient_log10, necessary_log10: the same as powers of ten, finite at any size (-infinity where no token is
            necessary).
        sufficient_tokens, necessary_tokens: the same as whole numbers; None above 10^18.
    """

    sufficient: Certificate
    necessary: Certificate
    sufficient_log10: float
    necessary_log10: float
    sufficient_tokens: int | None
    necessary_tokens: int | None


def prompt_length(
    dim: int,
    tokens: int,
    lipschitz: float | int,
    tol: float | int,
    alpha: float | int = 2,
    precision: float | int = 32,
    hidden_size: int | None = None,
) -> PromptLength:
    """Soft tokens that suffice for one construction, and soft tokens that no backbone can do without.

    Proved of `sufficient` is that a table of so many vectors holds some g with |f(X) - g(X)| <= tol for every f of the
    class and every X; that a transformer reads one of its vectors from each prompt token is paper B's construction, and
    a condition in the claim. `necessary` counts prompts, whose entries take at most 2^precision values each.

    Args:
        dim: size of one input and output token.
        tokens: in one input.
        lipschitz: C, not negative. 0 leaves the constant functions.
        tol: the error allowed, in the alpha-norm over all entries of one output.
        alpha: at least 1; infinity is the largest entry.
        precision: bits per prompt entry. 32 covers every float32 prompt, 16 every bfloat16 one; entries in [-r, r] on a
            grid of step eps have log2(1 + 2 r / eps).
        hidden_size: entries of one soft token. None means `dim`, as in the papers.

    Raises:
        InputError: listing every argument out of range.

    Reference: Hu et al. 2025, Theorem 2.5; theorem keys ``table-prompt-length`` and ``counting-prompt-length``.
    """
    hidden = dim if hidden_size is None else hidden_size
    raise_if_any(_faults(dim, tokens, lipschitz, tol, alpha, precision, hidden_size))
    with localcontext(rounding.WIDE):
        table = covering_length(dim, tokens, lipschitz, tol, alpha)
        packing = _best_packing(dim * tokens, lipschitz, tol, alpha)
        needed = _counted_length(packing[-1], Decimal(precision) * hidden)
        problem = {"dim": dim, "tokens": tokens, "lipschitz": lipschitz, "tol": tol, "alpha": alpha}
        setting = f"C={rounding.shown(lipschitz)}, tol={rounding.shown(tol)}, alpha={rounding.shown(alpha)}"
        return PromptLength(
            sufficient=_sufficient(table, problem, setting),
            necessary=_necessary(needed, packing, {**problem, "precision": precision, "hidden": hidden}, setting),
            sufficient_log10=float(table.log10()),
            necessary_log10=float(needed.log10()) if needed else -math.inf,
            sufficient_tokens=int(table) if table <= LARGEST_COUNT else None,
            necessary_tokens=int(needed) if needed <= LARGEST_COUNT else None,
        )


def _best_packing(
    size: int, lipschitz: float | int, tol: float | int, alpha: float | int
) -> tuple[int, int, Decimal, Decimal]:
    """The largest family found of functions that `tol` tells apart: coordinates, steps, grid points per axis, bits.

    On a grid with g points per axis, each of k output coordinates takes one of q + 1 levels at each point, h > 2 tol
    apart. Any such choice extends to a function of the class when (g - 1) q h k^(1/alpha) <= C and q h <= 1, that is,
    for some h > 2 tol, when (g - 1) q 2 tol k^(1/alpha) < C (or g = 1) and q 2 tol < 1.
    """
    best = (1, 0, Decimal(1), Decimal(0))
    most = int(rounding.ceil_below(1 / (2 * Decimal(tol)))) - 1
    steps = sorted({min(2**power, most) for power in range(most.bit_length() + 1)}) if most > 0 else []
    for coordinates in sorted({1, size}):
        spread = Decimal(coordinates) ** (1 / Decimal(alpha))
        for count in steps:
            points = max(rounding.ceil_below(Decimal(lipschitz) / (2 * Decimal(tol) * count * spread)), Decimal(1))
            bits = coordinates * points**size * (Decimal(count + 1).ln() / Decimal(2).ln())
            if bits > best[-1]:
                best = (coordinates, count, points, bits)
    return best


def _counted_length(bits: Decimal, token_bits: Decimal) -> Decimal:
    """The least m for which the prompts of at most m tokens can be as many as 2^bits functions.

    There are fewer than 2^(token_bits m + 1) of them, as token_bits >= 1, so each m with token_bits m + 1 <= bits
    fails. Rounding down the largest such m keeps the bound on its side.
    """
    if not bits:
        return Decimal(0)
    # One function more than the empty prompt selects: bits >= 1, whatever the rounding of a logarithm says.
    fits = max((bits - 1) / token_bits, Decimal(0))
    return rounding.ceil_below(fits) if fits >= 1 else Decimal(1)


def _sufficient(table: Decimal, problem: dict[str, float | int], setting: str) -> Certificate:
    return Certificate(
        claim=(
            f"If a backbone reads one vector of a table from each prompt token, as the specially built one of paper B "
            f"(Theorem 2.5, statement from memory) does, then value soft tokens select, for every f of the class "
            f"({setting}), a function within tol of f at every input. It is the length of one construction: nothing is "
            f"said of a given model, nor that fewer tokens fail."
        ),
        value=rounding.float_above(table),
        side=Side.UPPER,
        evidence=Evidence.PROVED,
        assumptions=(Assumption("cells small enough that C times half a cell's diameter is at most tol", True),),
        theorem="table-prompt-length",
        witness=problem,
        checker="limits.counting.lengths:recheck_table",
    )


def _necessary(
    needed: Decimal, packing: tuple[int, int, Decimal, Decimal], problem: dict[str, float | int], setting: str
) -> Certificate:
    coordinates, steps, points, _ = packing
    return Certificate(
        claim=(
            f"For every backbone there is an f of the class ({setting}) that no prompt of fewer than value soft tokens "
            f"selects to within tol at every input, when a token has {problem['hidden']} entries of "
            f"{rounding.shown(problem['precision'])} bits each."
        ),
        value=rounding.float_below(needed),
        side=Side.LOWER,
        evidence=Evidence.PROVED,
        assumptions=(Assumption("the functions counted are in the class and more than 2 tol apart", True),),
        theorem="counting-prompt-length",
        witness={**problem, "coordinates": coordinates, "steps": steps, "points": str(points)},
        checker="limits.counting.lengths:recheck_counting",
    )


@rechecks(Independence.FULL)
def recheck_table(certificate: Certificate) -> bool:
    """Second path: fill a table with cells a quarter as fine, in fractions, and see that it fits into `value` vectors.

    With m cells per axis and f stored at their centres, |f(X) - g(X)| <= C (dim tokens)^(1/alpha) / (2 m).
    """
    seen = certificate.witness
    size = int(seen["dim"] * seen["tokens"])
    with localcontext(rounding.WIDE):
        reach = Decimal(seen["lipschitz"]) * Decimal(size) ** (1 / Decimal(seen["alpha"])) / 2
        cells = max(rounding.ceil(reach / Decimal(seen["tol"])), Decimal(1))
        return math.isinf(certificate.value) or seen["tokens"] * cells**size <= Decimal(certificate.value)


@rechecks(Independence.ARITHMETIC)
def recheck_counting(certificate: Certificate) -> bool:
    """Second path: the family is in the class and told apart, and outnumbers all prompts of value - 1 tokens."""
    seen = certificate.witness
    size = int(seen["dim"] * seen["tokens"])
    with localcontext(rounding.WIDE):
        gap, points, steps = 2 * Decimal(seen["tol"]), Decimal(seen["points"]), Decimal(seen["steps"])
        slope = (points - 1) * steps * gap * Decimal(seen["coordinates"]) ** (1 / Decimal(seen["alpha"]))
        in_class = steps * gap < 1 and (points == 1 or slope < Decimal(seen["lipschitz"]))
        told_apart = seen["coordinates"] * points**size * (steps + 1).ln() / Decimal(2).ln()
        prompts = Decimal(seen["precision"]) * Decimal(seen["hidden"]) * (Decimal(certificate.value) - 1) + 1
        return certificate.value == 0 or (in_class and told_apart >= prompts)


def _faults(
    dim: int,
    tokens: int,
    lipschitz: float | int,
    tol: float | int,
    alpha: float | int,
    precision: float | int,
    hidden_size: int | None,
) -> list[Fault]:
    looked_at = (
        ("dim", dim, dim >= 1, "at least 1"),
        ("tokens", tokens, tokens >= 1, "at least 1"),
        ("hidden_size", hidden_size, hidden_size is None or hidden_size >= 1, "at least 1"),
        ("lipschitz", lipschitz, 0 <= lipschitz < math.inf, "a finite number, not negative"),
        ("tol", tol, 0 < tol < math.inf, "a positive finite number"),
        ("alpha", alpha, alpha >= 1, "at least 1; infinity is the largest entry"),
        ("precision", precision, 1 <= precision < math.inf, "bits per prompt entry, at least 1"),
    )
    return [Fault(name, str(seen), expected) for name, seen, fine, expected in looked_at if not fine]
