"""The papers' prompt length: the size of a table of a Lipschitz function over a grid that covers the inputs.

    L (2 C (dL)^(1/alpha) / tol)^(dL)

One vector of size d for each of L tokens in each of so many grid cells, where functions on [0,1]^(L x d) have
Lipschitz constant C in the entrywise alpha-norm and `tol` is the error allowed: inside one cell a function moves by at
most tol / 2. It is the size of one construction, which a certificate of a backbone replaces by its own number of slots,
and no lower bound: fewer tokens may do.

Reference: Hu et al. 2025, Theorem 2.5; theorem key ``table-prompt-length``.
"""

import math
from decimal import Decimal
from fractions import Fraction

from promptreach.rounding import ceil


def covering_length(dim: int, tokens: int, lipschitz: float | int, tol: float | int, alpha: float | int = 2) -> Decimal:
    """The length in soft tokens, rounded up, and at least one vector for each token.

    A whole number. Exact wherever (dL)^(dL/alpha) is a whole power and the result has fewer than some thousand digits;
    elsewhere to the precision of the current decimal context.

    Args:
        dim, tokens: d and L.
        lipschitz: C.
        tol: largest alpha-norm of the error.
        alpha: of the norm, at least 1; infinity is the largest entry.
    """
    size = dim * tokens
    root = Fraction(size) / Fraction(alpha) if math.isfinite(alpha) else Fraction(0)
    whole = size == 1 or root.denominator == 1
    # The ratio itself could leave the range of float64.
    bits = 1 + math.log2(max(lipschitz, 1e-300)) - math.log2(tol)
    if whole and size * max(1.0, bits) < 4096:
        count = tokens * (2 * Fraction(lipschitz) / Fraction(tol)) ** size * size**root.numerator
        return max(Decimal(math.ceil(count)) if count < 10**45 else ceil(_decimal(count)), Decimal(tokens))
    cells = 2 * Decimal(lipschitz) / Decimal(tol)
    return max(ceil(tokens * cells**size * Decimal(size) ** _decimal(root)), Decimal(tokens))


def covering_length_log10(dim: int, tokens: int, lipschitz: float, tol: float) -> float:
    """The length for alpha = 2 as a power of ten, not rounded to whole tokens, with at least one cell an axis."""
    size = dim * tokens
    return size * math.log10(max(2 * lipschitz * math.sqrt(size) / tol, 1)) + math.log10(tokens)


def _decimal(value: Fraction) -> Decimal:
    return Decimal(value.numerator) / Decimal(value.denominator)
