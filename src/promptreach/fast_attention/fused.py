"""Log masses and means from torch's fused attention kernel, which itself only returns the means.

One more key, the sentinel, has the score log n for every query, and a value coordinate that is 1 for it alone. Its
share u = n / (Z + n) comes back as that coordinate, so that log Z = log n + log(1 - u) - log u, and the mean over the
real keys is what the kernel returns divided by 1 - u. With centred keys log Z >= log n by Jensen's inequality, hence
u <= 1/2 and nothing cancels; u loses its digits only when a score comes within reach of the largest float.

Everything is differentiable, and no array of queries times keys is held.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention

from promptreach.attention import Statistics


def fused_attention(
    query: Float[Tensor, "*batch q head_dim"],
    key: Float[Tensor, "*key_batch n head_dim"],
    value: Float[Tensor, "*key_batch n value_dim"],
    scale: float = 1.0,
    *,
    causal: bool = False,
    mask: Bool[Tensor, "q n"] | None = None,
) -> Float[Tensor, "*batch q value_dim"]:
    """softmax(scale * query key^T) value by the fused kernel, which wants four axes and one width for all three.

    Args:
        query, key, value: one batch axis or none; keys and values without it are the same for every query of the batch.
        scale: the factor on q.k.
        causal: for as many queries as keys, of which each sees the keys up to its own.
        mask: True at visible keys, at least one for each query.
    """
    width = max(key.shape[-1], value.shape[-1])
    queries, keys, values = (_as_four(_padded(item, width)) for item in (query, key, value))
    keys, values = (item.expand(-1, queries.shape[1], -1, -1) for item in (keys, values))
    output = scaled_dot_product_attention(queries, keys, values, mask, is_causal=causal, scale=scale)
    return output.reshape(*query.shape[:-1], width)[..., : value.shape[-1]]


def fused_statistics(
    query: Float[Tensor, "q head_dim"],
    key: Float[Tensor, "n head_dim"],
    value: Float[Tensor, "n value_dim"],
    log_weight: Float[Tensor, " n"] | None = None,
) -> Statistics:
    """Log mass and mean of every query over the keys, in the dtype of the inputs; scores are query.key + log_weight.

    A mass too far above n for the sentinel to be seen beside it comes back as infinite.

    Args:
        query: with the scale of the scores multiplied in.
        key: centred, so that the sentinel is never the heaviest key by far.
        log_weight: added to every score of a key; None means 0.
    """
    sentinel = math.log(len(key))
    bias = pad(key.new_zeros(len(key)) if log_weight is None else log_weight, (0, 1), value=sentinel)
    keys = torch.cat([pad(key, (0, 0, 0, 1)), bias[:, None]], dim=1)
    values = torch.cat([pad(value, (0, 0, 0, 1)), pad(value.new_zeros(len(key)), (0, 1), value=1.0)[:, None]], dim=1)
    output = fused_attention(with_one(query), keys, values)
    share = output[:, -1]
    rest = torch.log1p(-share)
    return Statistics(sentinel + rest - share.log(), output[:, :-1] / rest.exp()[:, None])


def with_one(query: Float[Tensor, "*batch head_dim"]) -> Float[Tensor, "*batch width"]:
    """The query with one more coordinate, 1, for which a key's last coordinate is a term added to its score."""
    return pad(query, (0, 1), value=1.0)


def _padded(item: Tensor, width: int) -> Tensor:
    return item if item.shape[-1] == width else pad(item, (0, width - item.shape[-1]))


def _as_four(item: Tensor) -> Tensor:
    return item[None, None] if item.ndim == 2 else item[None]
