"""Fewer landmarks for the same error: centres moved by gradient steps, values and weights always the best for them.

For fixed centres the coefficients are a least-squares solution, so the loss is a function of the centres alone and its
gradient needs no derivative of the solution (variable projection). Moved centres need about a third of the slots for
the same error on smooth heads, and many times the time to fit: they are for when slots are what is scarce, as in a
cache, and not for saving time.

Reference: Golub, Pereyra 1973 (variable projection); Kingma, Ba 2015 (Adam).
"""

import torch
from jaxtyping import Float
from torch import Tensor

from promptreach.attention import Statistics
from promptreach.fast_attention.sampled.centres import Centres
from promptreach.fast_attention.sampled.refit import Landmarks

RATE = 0.1
"""The first step's length in standard deviations of the centres; it falls to 0 linearly."""
RIDGE = 1e-4
"""The ridge, relative to the mean square of a feature."""
STEPS = 200


@torch.no_grad()
def move_landmarks(
    query: Float[Tensor, "s head_dim"],
    exact: Statistics,
    slots: Centres,
    value: Float[Tensor, "n value_dim"],
    steps: int = STEPS,
) -> Landmarks:
    """Landmarks that start at `slots` and move `steps` times to fit the exact statistics of the queries.

    Deterministic, and a constant to gradients.

    Args:
        query: scaled, several times as many as slots.
        value: of all keys, for the range that outputs stay in.
    """
    middle = exact.mean.mean(dim=0)
    centred = exact.mean - middle
    unit = float(centred.square().mean().sqrt()) or 1.0
    target = torch.cat([centred, torch.full_like(centred[:, :1], unit)], dim=1)
    offset = slots.bias - exact.lse[:, None]
    key = slots.key.clone()
    size = float(key.std())
    first, second = torch.zeros_like(key), torch.zeros_like(key)
    for step in range(steps):
        phi = torch.exp(query @ key.T + offset)
        solution = _solve(phi, target)
        # d/d key of |phi X - target|^2 / 2, through phi alone.
        slope = (((phi @ solution - target) @ solution.T) * phi).T @ query
        first = 0.9 * first + 0.1 * slope
        second = 0.99 * second + 0.01 * slope.square()
        rate = RATE * size * (1 - step / steps)
        unbiased = (second / (1 - 0.99 ** (step + 1))).sqrt()
        key -= rate * first / (1 - 0.9 ** (step + 1)) / unbiased.clamp_min(torch.finfo(key.dtype).tiny)
    solution = _solve(torch.exp(query @ key.T + offset), target)
    weight = solution[:, -1] / unit
    low, high = value.amin(dim=0), value.amax(dim=0)
    return Landmarks(key, slots.bias, solution[:, :-1] + weight[:, None] * middle, weight, low, high)


def _solve(phi: Float[Tensor, "s slots"], target: Float[Tensor, "s columns"]) -> Float[Tensor, "slots columns"]:
    """The ridge solution in float64, with every feature scaled to mean square 1."""
    size = phi.square().mean(dim=0).sqrt().clamp_min(torch.finfo(phi.dtype).tiny)
    scaled = (phi / size).double()
    gram = scaled.T @ scaled
    gram.diagonal().add_(RIDGE * len(phi))
    solution: Tensor = torch.linalg.solve(gram, scaled.T @ target.double()).to(phi.dtype) / size[:, None]
    return solution
