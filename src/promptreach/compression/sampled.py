"""The heads of one layer as a shorter prefix has to serve them: sampled queries, and what the full prefix gives each.

A query sees prompt slots only through their mass and value sum, and content only through its own. So a shorter prefix
is as good as the full one for a query when mass and value sum agree; the content's statistics at that query say how
much a difference would matter. Everything a fit needs is here, and nothing of the model.

Notation: one layer; k key/value heads, S queries a head (those of every query head that shares it), t slots.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from promptreach.attention import Statistics, merge, statistics


@dataclass(frozen=True, eq=False)
class PrefixHeads:
    """Queries of one layer's heads with the content behind them and the output that the full prefix gives.

    Attributes:
        keys, values: (kv_head, prompt, head_dim) and (kv_head, prompt, value_dim), those of the full prefix.
        query: (kv_head, sample, head_dim), the scale multiplied in.
        content: lse (kv_head, sample) and mean (kv_head, sample, value_dim) of the content that each query sees.
        prefix: the same of the full prefix.
        target: (kv_head, sample, value_dim), the head's output over content and full prefix.
    """

    keys: Float[Tensor, "kv_head prompt head_dim"]
    values: Float[Tensor, "kv_head prompt value_dim"]
    query: Float[Tensor, "kv_head sample head_dim"]
    content: Statistics
    prefix: Statistics
    target: Float[Tensor, "kv_head sample value_dim"]

    @property
    def samples(self) -> int:
        """Queries a key/value head."""
        return self.query.shape[1]

    def take(self, samples: Int[Tensor, " chosen"] | slice) -> "PrefixHeads":
        """The same heads with some of the queries."""
        return self._at((slice(None), samples))

    def of(self, heads: Bool[Tensor, " kv_head"]) -> "PrefixHeads":
        """Some of the heads with all their queries."""
        return self._at((heads,))

    def _at(self, index: tuple[Any, ...]) -> "PrefixHeads":
        keys, values = self.keys[index[:1]], self.values[index[:1]]
        content, prefix = (Statistics(part.lse[index], part.mean[index]) for part in (self.content, self.prefix))
        return PrefixHeads(keys, values, self.query[index], content, prefix, self.target[index])

    def scores(self, slots: "PrefixSlots") -> Float[Tensor, "kv_head sample slot"]:
        """Log of the weight that each slot has at each query, its copies together, before any normalisation."""
        products: Tensor = self.query @ slots.keys.mT
        return products + slots.log_copies

    def output(self, slots: "PrefixSlots") -> Float[Tensor, "kv_head sample value_dim"]:
        """The heads' outputs with these slots instead of the full prefix."""
        given = statistics(self.query, slots.keys, slots.values, scale=1.0, mask=slots.log_copies)
        return merge(self.content, given).mean

    def errors(self, slots: "PrefixSlots") -> Float[Tensor, " kv_head"]:
        """|out - target|_F / |target - mean of target over the queries|_F, a head.

        Where the target is the same for every query, the error is relative to its size instead.
        """
        deviation = (self.target - self.target.mean(dim=1, keepdim=True)).norm(dim=(1, 2))
        size = self.target.norm(dim=(1, 2))
        unit = torch.where(deviation > 0, deviation, torch.where(size > 0, size, 1.0))
        missed: Tensor = (self.output(slots) - self.target).norm(dim=(1, 2))
        return missed / unit


@dataclass(frozen=True, eq=False)
class PrefixSlots:
    """Keys and values of one layer's heads, each counted as often as it will stand in the prefix.

    A rectangular prefix has the same number of slots for every head. A head that needs fewer repeats some, which
    multiplies their mass by a known number: exact for every query, unlike a slot that is to be looked at by none.

    Attributes:
        keys: (kv_head, slot, head_dim).
        values: (kv_head, slot, value_dim).
        log_copies: (slot,), the log of how often each slot stands in the prefix.
    """

    keys: Float[Tensor, "kv_head slot head_dim"]
    values: Float[Tensor, "kv_head slot value_dim"]
    log_copies: Float[Tensor, " slot"]

    def repeated(self) -> tuple[Float[Tensor, "kv_head width head_dim"], Float[Tensor, "kv_head width value_dim"]]:
        """Keys and values with every slot written out as often as it counts."""
        copies = self.log_copies.exp().round().long()
        return self.keys.repeat_interleave(copies, dim=1), self.values.repeat_interleave(copies, dim=1)


def prefix_heads(
    keys: Float[Tensor, "kv_head prompt head_dim"],
    values: Float[Tensor, "kv_head prompt value_dim"],
    query: Float[Tensor, "heads sample head_dim"],
    content: Statistics | None,
    scale: float,
) -> PrefixHeads:
    """One layer of a prefix with its sampled queries, grouped by the key/value head that they read.

    Without content each query is given some of the same mass as the prefix, with the prefix's mean value: then both
    the mass and the value sum of the prefix show in the output.
    """
    heads = len(keys)
    grouped = _grouped(query, heads) * scale
    prefix = statistics(grouped, keys, values, scale=1.0)
    if content is None:
        seen = Statistics(prefix.lse, values.mean(dim=1, keepdim=True).expand_as(prefix.mean))
    else:
        seen = Statistics(_grouped(content.lse, heads), _grouped(content.mean, heads))
    return PrefixHeads(keys, values, grouped, seen, prefix, merge(seen, prefix).mean)


def _grouped(tensor: Tensor, kv_heads: int) -> Tensor:
    """(heads, sample, ...) as (kv_head, sample of every query head in the group, ...): sample-major, so that the tail
    of the samples is the tail of the texts."""
    return tensor.reshape(kv_heads, -1, *tensor.shape[1:]).transpose(1, 2).flatten(1, 2)
