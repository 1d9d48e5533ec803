"""Norms of matrices that are known up to a radius: a bound holds for the worst of them, and hardly above."""

from decimal import Decimal

import pytest
import torch

from helpers.oracle_problems import normal
from helpers.tolerances import TOLERANCES
from promptreach.balls import NormBall
from promptreach.limits.layers.norm_routines import FAST, THOROUGH

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
    ball = NormBall(matrix, ERROR)
    length = float(matrix.norm())
    assert largest(worst(matrix)) <= float(routines.of(ball)) <= CLOSE * largest(worst(matrix)) * (1 + 1e-6)
    assert length + float(ERROR) <= float(ball.frobenius()) * CLOSE <= CLOSE**2 * (length + float(ERROR))
    row = float(matrix.norm(dim=1).max())
    assert row + float(ERROR) <= float(ball.longest_row()) * CLOSE <= CLOSE**2 * (row + float(ERROR))


@pytest.mark.parametrize("routines", [FAST, THOROUGH], ids=["fast", "thorough"])
def test_a_product_of_two_such_matrices_stays_within_its_bounds(routines):
    draw = normal(7)
    left, right = draw(3, 4), draw(4, 5)
    product = NormBall(left, ERROR) @ NormBall(right, ERROR)
    for _ in range(50):
        one, other = (float(ERROR) * step / step.norm() for step in (draw(3, 4), draw(4, 5)))
        moved = (left + one) @ (right + other)
        assert float((moved - product.centre).norm()) <= float(product.radius)
        assert largest(moved) <= float(routines.of_product(NormBall(left, ERROR), NormBall(right, ERROR)))
