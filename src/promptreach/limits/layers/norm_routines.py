"""Upper bounds on spectral norms of balls of matrices, by two paths for the two sides of a certificate.

`FAST` proves a guess by Cholesky and takes products through their thin factors; `THOROUGH` forms everything and takes
singular values.
"""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

import torch
from jaxtyping import Float
from torch import Tensor

from promptreach import norms
from promptreach.balls import NormBall

Spectral = Callable[[Float[Tensor, "rows columns"]], float]
Product = Callable[[Float[Tensor, "rows inner"], Float[Tensor, "inner columns"]], float]


@dataclass(frozen=True)
class NormRoutines:
    """Upper bounds on the spectral norm of a matrix and of a product of two."""

    spectral: Spectral
    product: Product

    def of(self, matrix: NormBall) -> Decimal:
        """At least the spectral norm of every member."""
        return Decimal(self.spectral(matrix.centre)) + matrix.radius

    def of_product(self, left: NormBall, right: NormBall) -> Decimal:
        """At least the spectral norm of every product of members."""
        return Decimal(self.product(left.centre, right.centre)) + left.product_radius(right)


def _by_cholesky(matrix: Float[Tensor, "rows columns"]) -> float:
    """A guess from the Gram matrix, proved without singular values; else the bound from singular values."""
    gram = matrix @ matrix.mT if matrix.shape[0] <= matrix.shape[1] else matrix.mT @ matrix
    guess = float(torch.linalg.eigvalsh(gram)[-1].clamp(min=0.0).sqrt()) * (1 + 1e-9)
    if guess < norms.frobenius(matrix).value and norms.bounds_spectral(matrix, guess):
        return guess
    return norms.spectral_upper(matrix).value


def _formed(left: Float[Tensor, "rows inner"], right: Float[Tensor, "inner columns"]) -> float:
    formed = NormBall(left) @ NormBall(right)
    return float(Decimal(norms.spectral_upper(formed.centre).value) + formed.radius)


FAST = NormRoutines(_by_cholesky, lambda left, right: norms.product_upper(left, right).value)
THOROUGH = NormRoutines(lambda matrix: norms.spectral_upper(matrix).value, _formed)
