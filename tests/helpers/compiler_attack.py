"""A search for the input at which a compiled prompt errs most: what sup certificates are attacked with."""

import torch
from torch import Tensor


def attack(backbone, prompt, target, starts: int = 200, rounds: int = 60, seed: int = 0) -> tuple[float, Tensor]:
    """The largest |output - f| found outside the ramps by hill climbing, and where: a LOWER bound on the sup error.

    Each climb moves some coordinates at random and snaps some to the nearest edge of the good set, where cells are
    farthest from their centres. A move is kept when the error grows and the point is still outside the ramps.
    """
    generator = torch.Generator().manual_seed(seed)
    shape = (starts, target.tokens, target.dim)

    def draw() -> Tensor:
        return torch.rand(shape, generator=generator, dtype=torch.float64)

    x = draw()
    best = torch.where(backbone.good(x), _errors(backbone, prompt, target, x), -torch.inf)
    edges = backbone.edges()
    for _ in range(rounds):
        scale = 10 ** (-3 * draw()[:, :1, :1])
        moved = (x + scale * (2 * draw() - 1) * (draw() < 0.5)).clamp(0, 1)
        if len(edges):
            after = torch.searchsorted(edges, moved.contiguous()).clamp(1, len(edges) - 1)
            left, right = edges[after - 1], edges[after]
            moved = torch.where(draw() < 0.5, torch.where(moved - left < right - moved, left, right), moved)
        errors = torch.where(backbone.good(moved), _errors(backbone, prompt, target, moved), -torch.inf)
        better = errors > best
        x = torch.where(better[:, None, None], moved, x)
        best = torch.where(better, errors, best)
    worst = int(best.argmax())
    return float(best[worst]), x[worst]


def _errors(backbone, prompt, target, x: Tensor) -> Tensor:
    with torch.no_grad():
        outputs = backbone(x, prompt).to("cpu", torch.float64)
    return torch.linalg.vector_norm(outputs - target.at(x), dim=(1, 2))
