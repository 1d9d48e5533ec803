"""Certified matrix norms: upper bounds that no rounding error can have pushed below the true norm, and a lower bound
with the vector that attains it.

The certificates rest on IEEE float64 and on matrix products that are sums of products in some order, as ordinary CPU
and GPU libraries form them (Strassen's scheme does not). A product of inner length k then errs entrywise by at most
gamma(k) |A||B|, where gamma(k) = k u / (1 - k u) and u = 2^-53; k roundings of positive numbers cost a factor of at
most 1 + gamma(k). Every count of roundings below is rounded up, which also covers underflow: it changes a result by
less than 1e-40 of its size, since the largest entry must lie between 1e-100 and 1e100.

Reference: Higham, Accuracy and Stability of Numerical Algorithms, chapters 3 and 10.
"""

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from promptreach import witness as witnesses
from promptreach.certificate import Assumption, Certificate, Independence, Side, Statement, rechecks
from promptreach.checkers import States
from promptreach.errors import Fault, InputError
from promptreach.rounding import UNIT, gamma


def max_norm(matrix: Float[Tensor, "rows columns"]) -> Certificate:
    """The largest absolute entry, EXACT: the norm in which paper B states its criterion.

    Raises:
        InputError: for an empty or non-finite matrix, or a largest entry outside [1e-100, 1e100] but 0, as all norms.
    """
    matrix = _checked(matrix)
    return Certificate.stated(recheck_max_norm, float(matrix.abs().max()), {"matrix": matrix})


def frobenius(matrix: Float[Tensor, "rows columns"]) -> Certificate:
    """An UPPER bound on the root of the summed squares of all entries, within a factor 1 + gamma(entries + 8)."""
    matrix = _checked(matrix)
    return Certificate.stated(recheck_frobenius_upper, _frobenius_above(matrix), {"matrix": matrix})


def spectral_upper(matrix: Float[Tensor, "rows columns"]) -> Certificate:
    """An UPPER bound on the spectral norm: for every vector v, |A v| <= value |v| in exact arithmetic.

    Computed factors U, s, V are not exact, but whatever they are, A = U diag(s) V^T + R for *some* R, hence
    |A| <= |U| max(s) |V| + |R|. Each of these norms is bounded from the factors as they stand; nothing is assumed of
    how they were found. Re-checking never sees the factors: it proves that value^2 I - A A^T is positive semidefinite.

    Reference: theorem key ``spectral-upper``.
    """
    matrix = _checked(matrix)
    left, singular, right = torch.linalg.svd(matrix, full_matrices=False)
    value = _norm_above(matrix, left, singular, right.mT)
    return Certificate.stated(recheck_spectral_upper, value, {"matrix": matrix})


def product_upper(left: Float[Tensor, "rows inner"], right: Float[Tensor, "inner columns"]) -> Certificate:
    """An UPPER bound on the spectral norm of the exact product: for every vector v, |A B v| <= value |v|.

    For an inner size far below the others, as in W_k^T W_q of one head: the factors of `spectral_upper` come from two
    QR factorisations and one small SVD, and the rounding of the product itself is added. Both factors and their product
    have to be matrices that the other norms take.

    Reference: theorem key ``spectral-upper``.
    """
    left, right = _checked(left), _checked(right)
    (left_basis, left_triangle), (right_basis, right_triangle) = torch.linalg.qr(left), torch.linalg.qr(right.mT)
    inner, singular, outer = torch.linalg.svd(left_triangle @ right_triangle.mT, full_matrices=False)
    value = _norm_above(_checked(left @ right), left_basis @ inner, singular, right_basis @ outer.mT)
    value = (value + _product_lost(left, right)) * _above(2)
    return Certificate.stated(recheck_product_upper, value, {"left": left, "right": right})


def spectral_lower(matrix: Float[Tensor, "rows columns"]) -> Certificate:
    """A LOWER bound on the spectral norm: the witness vector v has |A v| >= value |v| in exact arithmetic.

    Re-checking compares both sides as fractions, which costs some microseconds an entry.

    Reference: theorem key ``spectral-lower``.
    """
    matrix = _checked(matrix)
    vector = torch.linalg.svd(matrix, full_matrices=False)[2][0]
    columns = matrix.shape[1]
    image = _frobenius_below(matrix @ vector)
    lost = gamma(columns) * _above(columns) * _frobenius_above(matrix.abs() @ vector.abs())
    value = max(0.0, image - lost * _above(3)) / _frobenius_above(vector) * (1 - gamma(4))
    return Certificate.stated(recheck_spectral_lower, value, {"matrix": matrix, "vector": vector})


def _above(count: int) -> float:
    """A factor that undoes `count` roundings down, its own rounding and that of the product with it included."""
    return 1 + gamma(count + 3)


def _frobenius_above(tensor: Tensor) -> float:
    return math.sqrt(float((tensor * tensor).sum())) * _above(tensor.numel() + 2)


def _frobenius_below(tensor: Tensor) -> float:
    return math.sqrt(float((tensor * tensor).sum())) * (1 - gamma(tensor.numel() + 4))


def _product_lost(left: Tensor, right: Tensor) -> float:
    """At least the Frobenius norm of what rounding does to the product."""
    return gamma(left.shape[1]) * _frobenius_above(left) * _frobenius_above(right) * _above(3)


def _norm_above(matrix: Tensor, left: Tensor, singular: Tensor, right: Tensor) -> float:
    """An upper bound on |matrix| from any factors left (rows, r), singular (r), right (columns, r)."""
    scaled = left * singular
    # The product errs by gamma(r + 1) |U| s |V|^T, the subtraction by u (|A| + |product|).
    remainder = _frobenius_above(matrix - scaled @ right.mT) + gamma(len(singular) + 3) * (
        _frobenius_above(scaled) * _frobenius_above(right) + _frobenius_above(matrix)
    )
    stretch = math.sqrt(_stretch_above(left) * _stretch_above(right))
    return (float(singular.max()) * stretch + remainder) * _above(8)


def _stretch_above(factor: Float[Tensor, "rows r"]) -> float:
    """An upper bound on |F|^2 for nearly orthonormal columns: |F|^2 = |F^T F| <= 1 + |F^T F - I|."""
    rows, rank = factor.shape
    defect = factor.mT @ factor - torch.eye(rank, dtype=factor.dtype)
    lost = gamma(rows + 1) * (_frobenius_above(factor) ** 2 + math.sqrt(rank))
    return (1 + _frobenius_above(defect) + lost) * _above(6)


def _checked(matrix: Tensor) -> Float[Tensor, "rows columns"]:
    """The matrix in float64 on the CPU, where these proofs hold."""
    if matrix.ndim != 2 or not matrix.numel():
        raise InputError(Fault("matrix", f"shape {tuple(matrix.shape)}", "(rows, columns), nothing empty"))
    largest = float(matrix.detach().abs().max())
    if largest and not 1e-100 <= largest <= 1e100:
        raise InputError(
            Fault("matrix", f"largest absolute entry {largest}", "0, or within [1e-100, 1e100]", "Rescale the matrix")
        )
    return matrix.detach().to("cpu", torch.float64)


def _states(claim: str, side: Side, theorem: str, **axes: int) -> States:
    """What makes the statement of a kind that speaks of tensors, by their names and numbers of axes."""
    finite = Assumption("every entry is a finite float64 number", checked=True, detail="looked at each")

    def states(witness: Mapping[str, Any]) -> Statement:
        for name, count in axes.items():
            witnesses.tensor(witness, name, *[None] * count)
        return Statement(claim, side, theorem, (finite,))

    return states


@rechecks(
    Independence.ARITHMETIC,
    states=_states("value is the largest absolute entry of the witness matrix", Side.EXACT, "max-norm", matrix=2),
)
def recheck_max_norm(certificate: Certificate) -> bool:
    """Second path of `max_norm`: one entry at a time, without tensors."""
    return bool(certificate.value == max(abs(entry) for entry in certificate.witness["matrix"].flatten().tolist()))


@rechecks(
    Independence.ARITHMETIC,
    states=_states(
        "the Frobenius norm of the witness matrix is at most value", Side.UPPER, "frobenius-upper", matrix=2
    ),
)
def recheck_frobenius_upper(certificate: Certificate) -> bool:
    """Second path of `frobenius`: exact fractions, some microseconds an entry."""
    entries = certificate.witness["matrix"].flatten().tolist()
    return certificate.value >= 0 and Fraction(certificate.value) ** 2 >= sum(Fraction(entry) ** 2 for entry in entries)


@rechecks(
    Independence.FULL,
    states=_states(
        "the witness vector v has |A v| >= value |v|, where A is the witness matrix and |.| the Euclidean norm",
        Side.LOWER,
        "spectral-lower",
        matrix=2,
        vector=1,
    ),
)
def recheck_spectral_lower(certificate: Certificate) -> bool:
    """Second path of `spectral_lower`: |A v|^2 >= value^2 |v|^2 in exact fractions, with v not zero."""
    vector = [Fraction(entry) for entry in certificate.witness["vector"].tolist()]
    rows = certificate.witness["matrix"].tolist()
    image = [sum(Fraction(entry) * factor for entry, factor in zip(row, vector, strict=True)) for row in rows]
    size = sum(entry**2 for entry in vector)
    return size > 0 and sum(entry**2 for entry in image) >= max(Fraction(certificate.value), Fraction(0)) ** 2 * size


@rechecks(
    Independence.FULL,
    states=_states(
        "for every vector v, |A v| <= value |v|, where A is the witness matrix and |.| the Euclidean norm",
        Side.UPPER,
        "spectral-upper",
        matrix=2,
    ),
)
def recheck_spectral_upper(certificate: Certificate) -> bool:
    """Second path of `spectral_upper`: value^2 I - A A^T is positive semidefinite."""
    return bounds_spectral(_checked(certificate.witness["matrix"]), certificate.value)


@rechecks(
    Independence.FULL,
    states=_states(
        "for every vector v, |A B v| <= value |v|, where A and B are the witness's left and right",
        Side.UPPER,
        "spectral-upper",
        left=2,
        right=2,
    ),
)
def recheck_product_upper(certificate: Certificate) -> bool:
    """Second path of `product_upper`: that of `spectral_upper`, for the computed product and what rounding leaves."""
    left, right = (_checked(certificate.witness[name]) for name in ("left", "right"))
    rest = (certificate.value - _product_lost(left, right)) * (1 - gamma(2))
    return bounds_spectral(_checked(left @ right), rest)


def bounds_spectral(matrix: Float[Tensor, "rows columns"], value: float) -> bool:
    """True only if |A v| <= value |v| for every v: value^2 I - A A^T is positive semidefinite, by Cholesky.

    If the factorisation of H runs to completion, then H + gamma(r + 1) trace(H) I is positive semidefinite in exact
    arithmetic (Higham, Theorem 10.3; two more roundings are granted for pivots applied as reciprocals). H is
    (value^2 - margin) I minus the computed A A^T, where the margin covers that, the error of the product and the
    roundings on the diagonal.
    """
    if not matrix.any():
        return value >= 0
    matrix = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.mT
    size, length = matrix.shape
    square = value * value
    margin = (gamma(size + 4) * size + 6 * UNIT) * square + gamma(length) * _frobenius_above(matrix) ** 2
    corner = square - margin * _above(8)
    factor, failed = torch.linalg.cholesky_ex(corner * torch.eye(size, dtype=torch.float64) - matrix @ matrix.mT)
    return value >= 0 and not bool(failed) and bool(factor.isfinite().all())
