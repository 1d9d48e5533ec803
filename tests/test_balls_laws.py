"""Laws of balls: what is computed with them holds for every member, rounding included."""

from decimal import Decimal

import torch

from helpers.oracle_problems import normal
from promptreach.balls import Ball, NormBall

ERROR = Decimal("0.25")


def test_operations_keep_the_results_of_all_members_inside():
    draw = normal(3)
    for operation in ("__add__", "__sub__", "__mul__", "__matmul__"):
        left, right = (Ball(draw(4, 4), 0.1 * draw(4, 4).abs()) for _ in range(2))
        result = getattr(left, operation)(right)
        for _ in range(20):
            one, other = (ball.centre + ball.radius * torch.sign(draw(4, 4)) for ball in (left, right))
            found = getattr(one, operation)(other)
            assert bool(((found - result.centre).abs() <= result.radius).all())
            assert float(found.norm()) <= result.norm()


def test_a_product_carries_the_rounding_of_every_term_that_it_sums():
    draw = torch.Generator().manual_seed(4)
    left, right = (torch.randn(*shape, generator=draw, dtype=torch.float64) for shape in ((2, 4096), (4096, 3)))
    product = Ball.exact(left) @ Ball.exact(right)
    # The standard bound of a sum of 4,096 products, in any order of summation.
    assert bool((product.radius >= 4096 * 2**-53 * (left.abs() @ right.abs())).all())


def test_columns_and_sums_carry_their_errors():
    draw = normal(8)
    matrix, factors = draw(3, 4), draw(4)
    scaled = NormBall(matrix, ERROR).times_columns(factors)
    assert torch.equal(scaled.centre, matrix * factors)
    assert float(scaled.radius) >= float(ERROR) * float(factors.abs().max())
    total = NormBall(matrix, ERROR) + NormBall(matrix, 2 * ERROR)
    assert float(total.radius) >= 3 * float(ERROR)
    assert torch.equal(total.transposed.centre, 2 * matrix.mT)


def test_what_underflows_is_still_inside():
    """Products below the smallest float64 are not 0, and norms of entries whose squares underflow are not either."""
    tiny = torch.tensor([[1e-200, 3e-320]], dtype=torch.float64)
    product = Ball.exact(tiny) @ Ball.exact(1e-160 * torch.ones(2, 1, dtype=torch.float64))
    assert float(product.radius) > 0
    assert float((Ball.exact(tiny) * Ball.exact(tiny)).radius.min()) > 0
    assert Ball.exact(tiny).norm() >= 1e-200
    assert Ball.exact(1e300 * torch.ones(3, 3, dtype=torch.float64)).norm() >= 3e300
    scaled = NormBall.exact(torch.full((2, 2), 1e-99, dtype=torch.float64)).times_columns(
        torch.full((2,), 1e-250, dtype=torch.float64)
    )
    assert scaled.radius > 0
