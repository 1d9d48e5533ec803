"""Matrices that are known up to an error: a bound holds for the worst of them, and hardly above."""

from decimal import Decimal

import pytest
import torch

from helpers.oracle_problems import normal
from helpers.tolerances import TOLERANCES
from promptreach.limits.layers.jacobian import points_in_ball
from promptreach.limits.layers.near import FAST, THOROUGH, Near, gamma

CLOSE = 1 + TOLERANCES["oracle value", torch.float64][0]
ERROR = Decimal("0.25")


def worst(matrix: torch.Tensor) -> torch.Tensor:
    """The member of the ball around `matrix` whose spectral norm is largest."""
    left, _, right = torch.linalg.svd(matrix)
    return matrix + float(ERROR) * torch.outer(left[:, 0], right[0])


def largest(matrix: torch.Tensor) -> float:
    return float(torch.linalg.matrix_norm(matrix, 2))


@pytest.mark.parametrize("routines", [FAST, THOROUGH], ids=["fast", "thorough"])
@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (1, 4)])
def test_norms_are_those_of_the_worst_matrix_in_the_ball(shape, routines):
    matrix = normal(sum(shape))(*shape)
    near = Near(matrix, ERROR)
    length = float(matrix.norm())
    assert largest(worst(matrix)) <= float(routines.of(near)) <= CLOSE * largest(worst(matrix)) * (1 + 1e-6)
    assert length + float(ERROR) <= float(near.frobenius()) * CLOSE <= CLOSE**2 * (length + float(ERROR))
    row = float(matrix.norm(dim=1).max())
    assert row + float(ERROR) <= float(near.longest_row()) * CLOSE <= CLOSE**2 * (row + float(ERROR))


@pytest.mark.parametrize("routines", [FAST, THOROUGH], ids=["fast", "thorough"])
def test_a_product_of_two_such_matrices_stays_within_its_bounds(routines):
    draw = normal(7)
    left, right = draw(3, 4), draw(4, 5)
    product = Near(left, ERROR) @ Near(right, ERROR)
    for _ in range(50):
        one, other = (float(ERROR) * step / step.norm() for step in (draw(3, 4), draw(4, 5)))
        moved = (left + one) @ (right + other)
        assert float((moved - product.centre).norm()) <= float(product.error)
        assert largest(moved) <= float(routines.of_product(Near(left, ERROR), Near(right, ERROR)))


def test_columns_and_sums_carry_their_errors():
    draw = normal(8)
    matrix, factors = draw(3, 4), draw(4)
    scaled = Near(matrix, ERROR).times_columns(factors)
    assert torch.equal(scaled.centre, matrix * factors)
    assert float(scaled.error) >= float(ERROR) * float(factors.abs().max())
    total = Near(matrix, ERROR) + Near(matrix, 2 * ERROR)
    assert float(total.error) >= 3 * float(ERROR)
    assert torch.equal(total.transposed.centre, 2 * matrix.mT)


def test_roundings_grow_with_their_number():
    assert gamma(0) == 0
    assert Decimal(8) * Decimal(2) ** -53 < gamma(8) < gamma(9) < Decimal("9.01") * Decimal(2) ** -53


def test_places_to_look_are_in_the_ball_and_drawn_from_the_generator():
    first, again, other = (points_in_ball(4, 6, 2.0, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    for one, same, different in zip(first, again, other, strict=True):
        assert torch.equal(one, same)
        assert not torch.equal(one, different)
        assert float(one.norm(dim=1).max()) <= 2.0
