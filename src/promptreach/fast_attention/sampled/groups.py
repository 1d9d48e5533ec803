"""Points in groups of one size: halves of halves, split where they are widest, so that every later step is a batched
product. Deterministic: power iteration from a fixed start finds the direction of each split.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

POWER_STEPS = 6
SAMPLED_POINTS = 512
"""Points of a group that decide its direction, at most; more hardly turn it."""


@dataclass(frozen=True, eq=False)
class Groups:
    """Every point in one group; where the sizes do not come out even, a few points stand twice with half the weight.

    Attributes:
        index: (groups, size), rows of the points.
        log_weight: (groups, size), 0, or -log 2 for a point that stands twice.
    """

    index: Int[Tensor, "groups size"]
    log_weight: Float[Tensor, "groups size"]


@torch.no_grad()
def bisect(points: Float[Tensor, "n dim"], groups: int) -> Groups:
    """`points` in `groups` groups of ceil(n / groups), each close together.

    Args:
        groups: a power of two, at most n.
    """
    n = len(points)
    size = -(-n // groups)
    extra = torch.arange(groups * size - n) * n // max(1, groups * size - n)
    order = torch.cat([torch.arange(n), extra]).to(points.device)
    twice = torch.zeros(n, dtype=points.dtype, device=points.device)
    twice[extra] = -math.log(2)
    ordered = points[order]
    for level in range(groups.bit_length() - 1):
        parts = ordered.view(2**level, -1, points.shape[1])
        place = (parts @ _directions(parts)).squeeze(2).argsort(dim=1)
        place = (place + torch.arange(len(parts), device=points.device)[:, None] * parts.shape[1]).flatten()
        order, ordered = order.index_select(0, place), ordered.index_select(0, place)
    order = order.view(groups, size)
    return Groups(order, twice[order])


def metric(points: Float[Tensor, "n dim"]) -> Float[Tensor, "dim dim"]:
    """A root R of the points' covariance: |(x - y) R| is the root mean square of point.(x - y) over centred points."""
    centred = points.detach() - points.detach().mean(dim=0)
    values, axes = torch.linalg.eigh(centred.T @ centred / len(points))
    root: Tensor = axes * values.clamp_min(0.0).sqrt()
    return root


def _directions(parts: Float[Tensor, "parts size dim"]) -> Float[Tensor, "parts dim 1"]:
    """The direction in which each part is widest, roughly."""
    step = max(1, parts.shape[1] // SAMPLED_POINTS)
    sample = parts[:, ::step]
    sample = sample - sample.mean(dim=1, keepdim=True)
    moment = sample.mT @ sample
    widest = moment.diagonal(dim1=1, dim2=2).argmax(dim=1)
    direction = moment[torch.arange(len(parts), device=parts.device), widest][:, :, None]
    for _ in range(POWER_STEPS):
        direction = moment @ torch.nn.functional.normalize(direction, dim=1)
    return torch.nn.functional.normalize(direction, dim=1)
