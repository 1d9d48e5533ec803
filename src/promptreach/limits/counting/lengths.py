"""Soft tokens that a whole class of functions needs, and soft tokens that suffice: three numbers, never one.

The class: all f on [0,1]^(tokens x dim) with values there and |f(X) - f(X')| <= C |X - X'|, in the entrywise
alpha-norm. One backbone is fixed; the prompt alone selects f, to within `tol` at every input.

Notation
    letter      meaning                                                 paper B
    dim         size of a token                                         d
    tokens      tokens of the input                                     L
    lipschitz   C                                                       C
    tol         largest alpha-norm of the error                         epsilon
    cells       2 C (dim tokens)^(1/alpha) / tol, per axis              1/delta

Sufficient: a table with one vector of size dim for each token of each of cells^(dim tokens) grid cells, whose entries
are written into prompt entries of the stated precision. Index: the same table as one number, whose digits fill the
prompt: as many prompts as there are tables suffice for a backbone that decodes it. Necessary: as many prompts of that
precision as there are functions that `tol` tells apart. So the last never exceeds the others. Derivations:
docs/theory/lipschitz.md, sections 8 and 9.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, localcontext

from promptreach import rounding
from promptreach.certificate import Assumption, Certificate, Independence, Side, Statement, rechecks
from promptreach.covering import covering_length
from promptreach.errors import Fault, raise_if_any
from promptreach.witness import number, whole

LARGEST_COUNT = 10**18
"""Up to here, lengths are also given as whole numbers."""


@dataclass(frozen=True)
class PromptLength:
    """Three lengths in soft tokens, about different things.

    Attributes:
        sufficient: UPPER. Enough for one specially built backbone, at the stated precision; says nothing of a given
            pretrained model, and not that fewer tokens fail.
        necessary: LOWER. No backbone manages every function with fewer tokens at the stated precision.
        index: UPPER. Enough for a backbone that decodes the table's number in the list of all tables from the digits of
            the prompt's entries: fewer tokens than `sufficient`, which is therefore not required of the best backbone.
        sufficient_log10, necessary_log10, index_log10: the same as powers of ten, finite at any size (-infinity where
            no token is necessary).
        sufficient_tokens, necessary_tokens, index_tokens: the same as whole numbers; None above 10^18.
    """

    sufficient: Certificate
    necessary: Certificate
    index: Certificate
    sufficient_log10: float
    necessary_log10: float
    index_log10: float
    sufficient_tokens: int | None
    necessary_tokens: int | None
    index_tokens: int | None


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

    Reference: Hu et al. 2025, Theorem 2.5; theorem keys ``table-prompt-length``, ``index-prompt-length`` and
    ``counting-prompt-length``.
    """
    hidden = dim if hidden_size is None else hidden_size
    raise_if_any(_faults(dim, tokens, lipschitz, tol, alpha, precision, hidden_size))
    with localcontext(rounding.WIDE):
        digits = _tokens_of_a_vector(dim * tokens, dim, tol, alpha, precision, hidden)
        vectors = covering_length(dim, tokens, lipschitz, tol, alpha)
        table = vectors * digits
        index = min(_index_length(vectors * dim, dim * tokens, tol, alpha, int(precision) * hidden), table)
        packing = _best_packing(dim * tokens, lipschitz, tol, alpha)
        needed = _counted_length(packing[-1], Decimal(precision) * hidden)
        problem = {"dim": dim, "tokens": tokens, "lipschitz": lipschitz, "tol": tol, "alpha": alpha}
        problem |= {"precision": precision, "hidden": hidden}
        coordinates, steps, points, _ = packing
        family = problem | {"coordinates": coordinates, "steps": steps, "points": str(points)}
        return PromptLength(
            sufficient=Certificate.stated(recheck_table, rounding.float_above(table), problem).checked(),
            necessary=Certificate.stated(recheck_counting, rounding.float_below(needed), family).checked(),
            index=Certificate.stated(recheck_index, rounding.float_above(index), problem).checked(),
            sufficient_log10=float(table.log10()),
            necessary_log10=float(needed.log10()) if needed else -math.inf,
            index_log10=float(index.log10()),
            index_tokens=int(index) if index <= LARGEST_COUNT else None,
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


def _tokens_of_a_vector(
    size: int, dim: int, tol: float | int, alpha: float | int, precision: float | int, hidden: int
) -> int:
    """Prompt tokens that one vector of the table takes: 1, unless their entries hold too few bits.

    A table of floor(cells) cells an axis errs by at most tol / 2. Its entries may be rounded to one of 2^q levels of
    [0, 1], which moves outputs by size^(1/alpha) 2^-(q+1) at most, half of `tol` for the q taken here.
    """
    levels = Decimal(size) ** (1 / Decimal(alpha)) / Decimal(tol)
    bits = max(int(rounding.ceil(levels.ln() / Decimal(2).ln())), 0) if levels > 1 else 0
    return max(-(-dim * -(-bits // int(precision)) // hidden), 1)


def _index_length(entries: Decimal, size: int, tol: float | int, alpha: float | int, token_bits: int) -> Decimal:
    """Tokens whose bits number all tables: levels^entries of them, where rounding entries to levels costs tol / 2."""
    levels = max(rounding.ceil(Decimal(size) ** (1 / Decimal(alpha)) / Decimal(tol)), Decimal(1))
    bits = entries * levels.ln() / Decimal(2).ln()
    return max(rounding.ceil(bits / token_bits), Decimal(1))


def _problem(seen: Mapping[str, object]) -> dict[str, float | int]:
    """The numbers of a problem as a witness has them, refused where `prompt_length` refuses them."""
    return {
        **{name: whole(seen, name) for name in ("dim", "tokens", "hidden")},
        "lipschitz": number(seen, "lipschitz", 0),
        "tol": number(seen, "tol", math.ulp(0.0)),
        "alpha": math.inf if seen["alpha"] == math.inf else number(seen, "alpha", 1),
        "precision": number(seen, "precision", 1),
    }


def _setting(seen: Mapping[str, object]) -> str:
    lipschitz, tol, alpha = (rounding.shown(_problem(seen)[name]) for name in ("lipschitz", "tol", "alpha"))
    return f"(C={lipschitz}, tol={tol}, alpha={alpha}) on {seen['tokens']} x {seen['dim']} entries"


def _precision(seen: Mapping[str, object]) -> str:
    return f"{seen['hidden']} entries of {rounding.shown(_problem(seen)['precision'])} bits each"


def _states_sufficient(seen: Mapping[str, object]) -> Statement:
    return Statement(
        claim=(
            f"If a backbone reads one vector of a table from the prompt tokens that hold it, as the one built "
            f"in paper B (Theorem 2.5, statement from memory) does with one token for each, then value soft tokens of "
            f"{_precision(seen)} select, for every f of the class {_setting(seen)}, a function within tol of f at "
            f"every input. It is the length of one construction: nothing is said of a given model, nor that fewer "
            f"tokens fail."
        ),
        side=Side.UPPER,
        assumptions=(
            Assumption("cells small enough that C times half a cell's diameter is at most tol / 2", True),
            Assumption("entries of the table rounded by at most what moves an output by tol / 2", True),
        ),
        theorem="table-prompt-length",
    )


def _states_index(seen: Mapping[str, object]) -> Statement:
    return Statement(
        claim=(
            f"If a backbone decodes the number of a table from the digits of the prompt's entries, then value soft "
            f"tokens of {_precision(seen)} select, for every f of the class {_setting(seen)}, a function within tol of "
            f"f at every input: there are as many prompts as tables. Nothing is said of a given model, nor that fewer "
            f"tokens fail."
        ),
        side=Side.UPPER,
        assumptions=(
            Assumption("cells small enough that C times half a cell's diameter is at most tol / 2", True),
            Assumption("entries of the table rounded by at most what moves an output by tol / 2", True),
        ),
        theorem="index-prompt-length",
    )


def _states_necessary(seen: Mapping[str, object]) -> Statement:
    return Statement(
        claim=(
            f"For every backbone there is an f of the class {_setting(seen)} that no prompt of fewer than value soft "
            f"tokens selects to within tol at every input, when a token has {_precision(seen)}."
        ),
        side=Side.LOWER,
        assumptions=(Assumption("the functions counted are in the class and more than 2 tol apart", True),),
        theorem="counting-prompt-length",
    )


@rechecks(Independence.FULL, states=_states_sufficient)
def recheck_table(certificate: Certificate) -> bool:
    """Second path: fill a table with cells half as fine and see that it fits, written out in prompt entries.

    With m cells per axis and f stored at their centres, |f(X) - g(X)| <= C (dim tokens)^(1/alpha) / (2 m); with q bits
    an entry, by (dim tokens)^(1/alpha) / 2^(q+1) more. Milliseconds, on any witness.
    """
    seen = _problem(certificate.witness)
    size = int(seen["dim"] * seen["tokens"])
    if not certificate.value >= 1:
        return False
    with localcontext(rounding.WIDE):
        half, spread = Decimal(seen["tol"]) / 2, Decimal(size) ** (1 / Decimal(seen["alpha"])) / 2
        cells = max(rounding.ceil(Decimal(seen["lipschitz"]) * spread / half), Decimal(1))
        bits = 0
        while spread / 2**bits > half * (1 - Decimal("1e-40")):
            bits += 1
        entries = seen["dim"] * math.ceil(bits / int(seen["precision"]))
        vector = max(math.ceil(Decimal(entries) / int(seen["hidden"])), 1)
        return math.isinf(certificate.value) or int(seen["tokens"]) * cells**size * vector <= Decimal(certificate.value)


@rechecks(Independence.FULL, states=_states_index)
def recheck_index(certificate: Certificate) -> bool:
    """Second path: the number of tables with cells half as fine, against that of prompts, in bits.

    Milliseconds, on any witness.
    """
    seen = _problem(certificate.witness)
    size = int(seen["dim"] * seen["tokens"])
    if not certificate.value >= 1:
        return False
    with localcontext(rounding.WIDE):
        half, spread = Decimal(seen["tol"]) / 2, Decimal(size) ** (1 / Decimal(seen["alpha"])) / 2
        cells = max(rounding.ceil(Decimal(seen["lipschitz"]) * spread / half), Decimal(1))
        levels = max(rounding.ceil(spread / half), Decimal(1))
        tables = size * cells**size * levels.ln() / Decimal(2).ln() * (1 - Decimal("1e-40"))
        prompts = Decimal(certificate.value) * int(seen["hidden"]) * int(seen["precision"])
        return math.isinf(certificate.value) or tables <= prompts


@rechecks(Independence.ARITHMETIC, states=_states_necessary)
def recheck_counting(certificate: Certificate) -> bool:
    """Second path: the family is in the class and told apart, and outnumbers all prompts of value - 1 tokens.

    Milliseconds, on any witness.
    """
    witness = certificate.witness
    seen = _problem(witness)
    size = int(seen["dim"] * seen["tokens"])
    steps, coordinates = Decimal(whole(witness, "steps", 0, 2**2000)), whole(witness, "coordinates", 1, size)
    if not isinstance(witness["points"], str) or len(witness["points"]) > 2000:
        return False
    points = Decimal(witness["points"])
    if not (points.is_finite() and points >= 1 and points == points.to_integral_value()):
        return False
    if not 0 <= certificate.value < math.inf:
        return False
    with localcontext(rounding.WIDE):
        gap = 2 * Decimal(seen["tol"])
        slope = (points - 1) * steps * gap * Decimal(coordinates) ** (1 / Decimal(seen["alpha"]))
        in_class = steps * gap < 1 and (points == 1 or slope < Decimal(seen["lipschitz"]))
        told_apart = coordinates * points**size * (steps + 1).ln() / Decimal(2).ln()
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
