"""Queries in blocks and keys in groups, with what the groups look like from afar: the problem of `clustered`."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from promptreach.fast_attention.fused import with_one
from promptreach.fast_attention.sampled.groups import Groups, bisect, metric


@dataclass(frozen=True, eq=False)
class Clustered:
    """Queries in blocks, keys in groups, and what the groups look like from afar.

    Attributes:
        blocks: of the queries.
        rows, keys: how many queries and keys there are.
        query: (b, B, w), scaled.
        key: (m, l, w), centred; the last coordinate is the log weight of a key that stands twice.
        value: (m, l, padded), with zeros behind the value_dim coordinates up to the width that the fused kernel
            needs; at least two, where slots carry their risk and the masses come back.
        value_dim: the values' own width.
        content: keys without their last coordinate and values, side by side: what a slot takes the means of.
        spread: (m, head_dim^2), covariance of the keys of each group.
        slope: (m, head_dim * padded), covariance of keys and values of each group.
    """

    blocks: Groups
    rows: int
    keys: int
    query: Float[Tensor, "b B w"]
    key: Float[Tensor, "m l w"]
    value: Float[Tensor, "m l padded"]
    value_dim: int
    content: Float[Tensor, "m l head_dim_and_padded"]
    spread: Float[Tensor, "m squared"]
    slope: Float[Tensor, "m product"]

    def near_groups(self, near_keys: int) -> int:
        """Groups that hold `near_keys` keys."""
        groups, size = self.key.shape[:2]
        return min(groups, -(-near_keys // size))


def cluster(
    query: Float[Tensor, "q head_dim"],
    key: Float[Tensor, "n head_dim"],
    value: Float[Tensor, "n value_dim"],
    blocks: int,
    groups: int,
) -> Clustered:
    """Queries (scaled) and keys (centred) in blocks and groups that are close in the metric of the other side.

    Gradients flow from the result; who is grouped with whom is fixed.
    """
    rows = bisect(query.detach() @ metric(key), blocks)
    columns = bisect(key.detach() @ metric(query), groups)
    width = max(query.shape[1], value.shape[1]) + 2
    keys, values = _grouped(key, columns), _grouped(pad(value, (0, width - value.shape[1])), columns)
    centred = keys - keys.mean(dim=1, keepdim=True)
    size = keys.shape[1]
    return Clustered(
        rows,
        len(query),
        len(key),
        _grouped(with_one(query), rows),
        torch.cat([keys, columns.log_weight[:, :, None]], dim=2),
        values,
        value.shape[1],
        torch.cat([keys, values], dim=2),
        (centred.mT @ centred / size).flatten(1),
        (centred.mT @ (values - values.mean(dim=1, keepdim=True)) / size).flatten(1),
    )


def _grouped(points: Float[Tensor, "n dim"], groups: Groups) -> Float[Tensor, "groups size dim"]:
    return points.index_select(0, groups.index.flatten()).view(*groups.index.shape, -1)
