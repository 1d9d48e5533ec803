"""Matrices that carry how far they may be from the ones they stand for, and upper bounds on their norms.

Folding a norm's weight into a projection, or a bias into another, rounds. A `Near` keeps the computed matrix and a
bound on the Frobenius distance to the true one, so that every norm taken of it bounds that of the true one.

Two families of norm routines give the two paths of a certificate: `FAST` proves a guess by Cholesky and takes products
through their thin factors; `THOROUGH` forms everything and takes singular values.
"""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

import torch
from jaxtyping import Float
from torch import Tensor

from promptreach import norms
from promptreach.certificate import Certificate, Evidence, Side

_UNIT = Decimal(2**-53)

Spectral = Callable[[Float[Tensor, "rows columns"]], float]
Product = Callable[[Float[Tensor, "rows inner"], Float[Tensor, "inner columns"]], float]


def gamma(count: int) -> Decimal:
    """What `count` roundings of one float64 sum of products amount to, relative to the sum of magnitudes."""
    return count * _UNIT / (1 - count * _UNIT)


@dataclass(frozen=True, eq=False)
class Near:
    """Any matrix within `error` of `centre` in the Frobenius norm; statements hold for all of them."""

    centre: Float[Tensor, "rows columns"]
    error: Decimal = Decimal(0)

    @staticmethod
    def exact(matrix: Tensor) -> "Near":
        """The matrix itself, converted to float64; a vector becomes a column."""
        matrix = matrix.detach().to("cpu", torch.float64)
        return Near(matrix[:, None] if matrix.ndim == 1 else matrix)

    @property
    def transposed(self) -> "Near":
        return Near(self.centre.mT, self.error)

    def frobenius(self) -> Decimal:
        """At least the Frobenius norm."""
        return Decimal(norms.frobenius(self.centre).value) + self.error

    def longest_row(self) -> Decimal:
        """At least the largest Euclidean norm of a row."""
        squares = self.centre.square().sum(dim=1)
        return Decimal(float(squares.max())).sqrt() * (1 + gamma(self.centre.shape[1] + 4)) + self.error

    def times_columns(self, factors: Float[Tensor, " columns"]) -> "Near":
        """Each column times its own factor."""
        centre = self.centre * factors
        largest = Decimal(float(factors.abs().max()))
        return Near(centre, self.error * largest + 2 * _UNIT * Near(centre).frobenius())

    def __matmul__(self, other: "Near") -> "Near":
        rounding = gamma(self.centre.shape[1] + 1) * self.frobenius() * other.frobenius()
        return Near(self.centre @ other.centre, rounding + self._spread(other))

    def __add__(self, other: "Near") -> "Near":
        centre = self.centre + other.centre
        return Near(centre, self.error + other.error + 2 * _UNIT * Near(centre).frobenius())

    def _spread(self, other: "Near") -> Decimal:
        """What the two errors do to the product, rounding apart."""
        return self.error * other.frobenius() + self.frobenius() * other.error


@dataclass(frozen=True)
class NormRoutines:
    """Upper bounds on the spectral norm of a matrix and of a product of two."""

    spectral: Spectral
    product: Product

    def of(self, matrix: Near) -> Decimal:
        """At least the spectral norm."""
        return Decimal(self.spectral(matrix.centre)) + matrix.error

    def of_product(self, left: Near, right: Near) -> Decimal:
        """At least the spectral norm of the product."""
        return Decimal(self.product(left.centre, right.centre)) + left._spread(right)


def _by_cholesky(matrix: Float[Tensor, "rows columns"]) -> float:
    """A guess from the Gram matrix, proved by the second path of `norms.spectral_upper`: no singular values needed."""
    largest = norms.frobenius(matrix).value
    gram = matrix @ matrix.mT if matrix.shape[0] <= matrix.shape[1] else matrix.mT @ matrix
    guess = float(torch.linalg.eigvalsh(gram)[-1].clamp(min=0.0).sqrt()) * (1 + 1e-9)
    claimed = Certificate("to be proved", guess, Side.UPPER, Evidence.UNKNOWN, witness={"matrix": matrix}, reason="yet")
    if guess < largest and norms.recheck_spectral_upper(claimed):
        return guess
    return norms.spectral_upper(matrix).value


def _through_factors(left: Float[Tensor, "rows inner"], right: Float[Tensor, "inner columns"]) -> float:
    return norms.product_upper(left, right).value


def _by_singular_values(matrix: Float[Tensor, "rows columns"]) -> float:
    return norms.spectral_upper(matrix).value


def _formed(left: Float[Tensor, "rows inner"], right: Float[Tensor, "inner columns"]) -> float:
    formed = Near(left) @ Near(right)
    return float(Decimal(norms.spectral_upper(formed.centre).value) + formed.error)


FAST = NormRoutines(_by_cholesky, _through_factors)
THOROUGH = NormRoutines(_by_singular_values, _formed)
