"""Balls: tensors known up to a radius, and the arithmetic that keeps every member's result inside.

A statement about a ball holds for every tensor in it. The radius is of one of two kinds, for two uses: entry by entry
in float64, where a function is evaluated (`Ball`); or one 50-digit number in the Frobenius norm, where matrices are
formed to take their norms (`NormBall`). The two stay apart: radii of entries take four matrix products for each one and
would give certified norms other digits, while one radius for a whole matrix says too little of an entry. Each operation
adds to the radius what its own rounding amounts to.

Reference: Higham, Accuracy and Stability of Numerical Algorithms, section 3.3 (running error analysis).
"""

import math
from dataclasses import dataclass
from decimal import Decimal

import torch
from jaxtyping import Float
from torch import Tensor

from promptreach import norms
from promptreach.rounding import UNIT, exact_gamma

OUTWARD = 1 + 2.0**-20
"""The factor that widens a radius formed in float64 of positive numbers: it covers sums of 2^30 terms."""

LEAST = 2.0**-1074
"""The smallest positive float64: at least what a product loses where it underflows, beside its relative error."""


@dataclass(frozen=True, eq=False)
class Ball:
    """Every tensor whose entries are within `radius` of those of `centre`.

    Sums of k products err by gamma(k) times the sum of magnitudes, of which the operators here grant twice as much, and
    by what underflows. Sums do not underflow.
    """

    centre: Float[Tensor, "..."]
    radius: Float[Tensor, "..."]

    @staticmethod
    def exact(tensor: Float[Tensor, "..."]) -> "Ball":
        """The tensor itself."""
        return Ball(tensor, torch.zeros_like(tensor))

    @property
    def size(self) -> Float[Tensor, "..."]:
        """At least the magnitude of every member's entries."""
        return (self.centre.abs() + self.radius) * OUTWARD

    @property
    def transposed(self) -> "Ball":
        return Ball(self.centre.mT, self.radius.mT)

    def __add__(self, other: "Ball") -> "Ball":
        centre = self.centre + other.centre
        return Ball(centre, (self.radius + other.radius + 2 * UNIT * centre.abs()) * OUTWARD)

    def __sub__(self, other: "Ball") -> "Ball":
        return self + Ball(-other.centre, other.radius)

    def __mul__(self, other: "Ball") -> "Ball":
        centre = self.centre * other.centre
        radius = self.radius * other.size + self.centre.abs() * other.radius + 2 * UNIT * centre.abs()
        return Ball(centre, radius * OUTWARD + 4 * LEAST)

    def __matmul__(self, other: "Ball") -> "Ball":
        rounding = 2 * self.centre.shape[-1] * UNIT * (self.centre.abs() @ other.centre.abs())
        carried = self.radius @ other.size + self.centre.abs() @ other.radius
        underflow = 4 * (self.centre.shape[-1] + 1) * LEAST
        return Ball(self.centre @ other.centre, (carried + rounding) * OUTWARD + underflow)

    def norm(self) -> float:
        """At least every member's Frobenius norm, at any size that a float64 has."""
        largest = float(self.size.max())
        if largest == 0 or not math.isfinite(largest):
            return math.inf if largest else 0.0
        # Squares of the entries themselves may underflow or overflow.
        scaled = float((self.size / largest).square().sum().sqrt())
        return math.nextafter(largest * scaled * OUTWARD, math.inf)


@dataclass(frozen=True, eq=False)
class NormBall:
    """Every matrix within `radius` of `centre` in the Frobenius norm; call inside ``localcontext(WIDE)``."""

    centre: Float[Tensor, "rows columns"]
    radius: Decimal = Decimal(0)

    @staticmethod
    def exact(matrix: Tensor) -> "NormBall":
        """The matrix itself, converted to float64; a vector becomes a column."""
        matrix = matrix.detach().to("cpu", torch.float64)
        return NormBall(matrix[:, None] if matrix.ndim == 1 else matrix)

    @property
    def transposed(self) -> "NormBall":
        return NormBall(self.centre.mT, self.radius)

    def frobenius(self) -> Decimal:
        """At least every member's Frobenius norm."""
        return Decimal(norms.frobenius(self.centre).value) + self.radius

    def longest_row(self) -> Decimal:
        """At least the largest Euclidean norm of any member's rows."""
        squares = self.centre.square().sum(dim=1)
        return Decimal(float(squares.max())).sqrt() * (1 + _gamma(self.centre.shape[1] + 4)) + self.radius

    def times_columns(self, factors: Float[Tensor, " columns"]) -> "NormBall":
        """Each column times its own factor."""
        radius = self.radius * Decimal(float(factors.abs().max())) + self.centre.numel() * Decimal(LEAST)
        return self._rounded(self.centre * factors, radius)

    def __add__(self, other: "NormBall") -> "NormBall":
        return self._rounded(self.centre + other.centre, self.radius + other.radius)

    def __matmul__(self, other: "NormBall") -> "NormBall":
        rounding = _gamma(self.centre.shape[1] + 1) * self.frobenius() * other.frobenius()
        return NormBall(self.centre @ other.centre, rounding + self.product_radius(other))

    def product_radius(self, other: "NormBall") -> Decimal:
        """The part of a product's radius that comes from the two radii, rounding apart."""
        return self.radius * other.frobenius() + self.frobenius() * other.radius

    @staticmethod
    def _rounded(centre: Tensor, radius: Decimal) -> "NormBall":
        """A ball whose centre was rounded once, entry by entry."""
        return NormBall(centre, radius + 2 * Decimal(UNIT) * NormBall(centre).frobenius())


def _gamma(count: int) -> Decimal:
    share = exact_gamma(count)
    return Decimal(share.numerator) / Decimal(share.denominator)
