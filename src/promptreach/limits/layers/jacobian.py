"""How steep a function certainly is somewhere: Jacobian norms from below, by power iteration."""

import torch
from jaxtyping import Float
from torch import Tensor

from promptreach.limits.layers.blocks import Branch


def steepness(
    function: Branch, point: Float[Tensor, "tokens hidden"], iterations: int, generator: torch.Generator
) -> float:
    """|J v| / |v| for a direction v that power iteration on J^T J has turned towards the steepest: at most |J|.

    Frobenius norms over stacked tokens. Not below the truth by rounding alone: float64, without an account of it.
    """
    direction = torch.randn(point.shape, generator=generator, dtype=torch.float64)
    pull_back = torch.func.vjp(function, point)[1]
    stretch = 0.0
    for _ in range(iterations):
        direction = direction / direction.norm()
        pushed = torch.func.jvp(function, (point,), (direction,))[1]
        stretch = float(pushed.norm())
        if stretch == 0.0:
            return 0.0
        (direction,) = pull_back(pushed)
    return stretch


def points_in_ball(
    hidden: int, tokens: int, radius: float, generator: torch.Generator
) -> list[Float[Tensor, "tokens hidden"]]:
    """Where to look for steep places: on the sphere, in two opposite clusters, and near 0, where norms are steep."""
    directions = torch.nn.functional.normalize(
        torch.randn(tokens, hidden, generator=generator, dtype=torch.float64), dim=1
    )
    signs = 1 - 2 * (torch.arange(tokens, dtype=torch.float64)[:, None] % 2)
    inside = radius * (1 - 1e-12)
    return [inside * directions, inside * signs * directions[:1], 1e-4 * inside * directions]
