"""Weight records as plain dictionaries, which a certificate's witness can hold, and back."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch

from promptreach.weights import AttentionWeights, FeedForwardWeights, LayerWeights, NormWeights


def packed(record: Any) -> Any:
    """A weight record as nested dictionaries of its fields; tensors keep their dtype and lose their graph."""
    if isinstance(record, torch.Tensor):
        return record.detach()
    if not dataclasses.is_dataclass(record):
        return record
    return {item.name: packed(getattr(record, item.name)) for item in dataclasses.fields(record)}


def unpacked_attention(fields: Mapping[str, Any]) -> AttentionWeights:
    """The float64 attention that `packed` took apart."""
    norms = {name: _norm(fields[name]) for name in ("query_norm", "key_norm")}
    return AttentionWeights(**{**fields, **norms}).detached()


def unpacked_layer(fields: Mapping[str, Any]) -> LayerWeights:
    """The float64 layer that `packed` took apart."""
    return LayerWeights(
        attention=unpacked_attention(fields["attention"]),
        feed_forward=None if fields["feed_forward"] is None else FeedForwardWeights(**fields["feed_forward"]),
        attention_norm=_norm(fields["attention_norm"]),
        feed_forward_norm=_norm(fields["feed_forward_norm"]),
        norm_position=fields["norm_position"],
    ).detached()


def _norm(fields: Mapping[str, Any] | None) -> NormWeights | None:
    return None if fields is None else NormWeights(**fields)
