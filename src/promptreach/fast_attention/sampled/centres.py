"""Centres of landmarks: means of clusters of keys, close in the metric of the queries.

Keys are drawn half uniformly and half by the attention they receive from a few exact rows, clustered by a few rounds of
Lloyd's algorithm, and each cluster becomes a slot: its mass at the mean query, and the means of its keys and values
under the weights exp(mean query.k). Draws are undone by their probabilities, so that the slots stand for all keys. This
is the prior that `refit` corrects."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from promptreach.fast_attention.sampled.groups import metric

DRAWN_PER_CENTRE = 4
ROUNDS = 3


class Centres(NamedTuple):
    """Keys and values that stand for many, each a slot: exp(q.key + bias) is its mass at q.

    Attributes:
        key: (slots, head_dim).
        bias: (slots,), nats.
        value: (slots, value_dim).
    """

    key: Tensor
    bias: Tensor
    value: Tensor


def draw_centres(
    query: Float[Tensor, "rows head_dim"],
    lse: Float[Tensor, " leading"],
    key: Float[Tensor, "n head_dim"],
    value: Float[Tensor, "n value_dim"],
    count: int,
    generator: torch.Generator,
) -> Centres:
    """At most `count` slots for the keys as the given queries see them; constants to gradients.

    Args:
        query: scaled sampled queries.
        lse: exact, of a few leading of these queries; they weigh the keys.
        key: centred.
    """
    with torch.no_grad():
        attention = torch.zeros(len(key), dtype=key.dtype, device=key.device)
        for row, mass in zip(torch.split(query, 16), torch.split(lse, 16), strict=False):
            attention += torch.exp(row @ key.T - mass[:, None]).sum(dim=0)
        chance = attention / attention.sum() + 1 / len(key)
        drawn = torch.multinomial(
            chance.cpu(), min(DRAWN_PER_CENTRE * count, len(key)), replacement=True, generator=generator
        ).to(key.device)
        home = _lloyd(key[drawn] @ metric(query), count)
        # How many keys a drawn key stands for, times its weight at the mean query.
        score = key[drawn] @ query.mean(dim=0)
        weight = torch.exp(score - score.max()) / chance[drawn] * chance.sum() / len(drawn)
        mass = weight.new_zeros(count).index_add_(0, home, weight)
        full = mass > 0
        content = torch.cat([key[drawn], value[drawn]], dim=1) * weight[:, None]
        means = content.new_zeros(count, content.shape[1]).index_add_(0, home, content)[full] / mass[full, None]
        keys, values = means[:, : key.shape[1]], means[:, key.shape[1] :]
        bias = mass[full].log() + score.max() - keys @ query.mean(dim=0)
        return Centres(keys, bias, values)


def _lloyd(points: Float[Tensor, "drawn dim"], count: int) -> Tensor:
    """The cluster of every point; the first points are the first centres."""
    centres = points[:count]
    for _ in range(ROUNDS):
        home = _nearest(points, centres)
        sizes = torch.bincount(home, minlength=count)[:, None]
        sums = torch.zeros_like(centres).index_add_(0, home, points)
        centres = torch.where(sizes > 0, sums / sizes.clamp_min(1), centres)
    return _nearest(points, centres)


def _nearest(points: Tensor, centres: Tensor) -> Tensor:
    half = centres.square().sum(dim=1) / 2
    return torch.cat([(part @ centres.T - half).argmax(dim=1) for part in torch.split(points, 1024)])
