"""Lengths: how long a sequence may be, and rows of a batch whose numbers would depend on the longest one beside them.

Two kinds of rotary positions change with the length of the input: longrope takes other frequencies for the whole pass
once the longest row goes beyond its first context, and dynamic scaling computes new ones and keeps them for later
passes. The first is made exact here, by sending short and long rows through the model apart; of the second only the
context up to which nothing changes is used.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import pad
from transformers import PreTrainedModel

from promptreach.backbone import UNBOUNDED, Prepended, TokenBatch
from promptreach.hf.models.sizes import field, text_config

CHANGING = ("dynamic", "longrope")
"""Kinds of rotary frequencies that change with the length of the input."""


@dataclass(frozen=True)
class TogetherRows:
    """Some rows of a batch: their numbers, the batch of them, what is joined to them."""

    rows: Tensor
    batch: TokenBatch
    joined: Prepended | None


def max_positions(module: PreTrainedModel) -> int:
    """The longest sequence that has a position for every token; `UNBOUNDED` where nothing bounds it.

    RoBERTa and its copies begin to count behind the padding id, which shows in the table of their positions.
    """
    config = text_config(module.config)
    most = field(config, "max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length")
    if not isinstance(most, int) or most < 1:
        return UNBOUNDED
    embeddings = [(name, part) for name, part in module.named_modules() if isinstance(part, nn.Embedding)]
    tables = [part for name, part in embeddings if "position" in name and part.num_embeddings == most]
    if not tables and any("relative_attention_bias" in name for name, _ in embeddings):
        return UNBOUNDED  # T5's configs name a length, but a bias on distances serves any
    skipped = [part.padding_idx + 1 for part in tables if part.padding_idx is not None]
    most -= max(skipped, default=0)
    changes = turning_length(module)
    return min(most, changes[1]) if changes is not None and changes[0] == "dynamic" else most


def turning_length(module: PreTrainedModel) -> tuple[str, int] | None:
    """The kind of rotary positions that change with the length of the input, and the length up to which they do not;
    None where they never change.
    """
    found: list[tuple[str, int]] = []
    for part in module.modules():
        kinds = getattr(part, "rope_type", None)
        config = getattr(part, "config", None)
        if kinds is None or config is None or not hasattr(part, "original_max_seq_len"):
            continue
        for layer_type, kind in kinds.items() if isinstance(kinds, dict) else ((None, kinds),):
            if kind in CHANGING:
                parameters = field(config, "rope_parameters") or {}
                own = parameters.get(layer_type, parameters) if layer_type else parameters
                most = own.get("original_max_position_embeddings") if kind == "longrope" else None
                found.append((kind, int(most or part.original_max_seq_len)))
    return min(found, key=lambda entry: entry[1], default=None)


def parts_of(batch: TokenBatch, joined: Prepended | None, turning: tuple[str, int] | None) -> list[TogetherRows]:
    """The rows up to the turning length, and those beyond it; none where one pass serves them all."""
    if turning is None:
        return []
    long = batch.mask.sum(1) + (joined.length if joined else 0) > turning[1]
    if bool(long.all()) or not bool(long.any()):
        return []
    return [_part(batch, joined, rows.nonzero().flatten()) for rows in (~long, long)]


def _part(batch: TokenBatch, joined: Prepended | None, rows: Tensor) -> TogetherRows:
    """These rows without padding that they do not need."""
    longest = int(batch.mask[rows].sum(1).max())
    own = TokenBatch(batch.input_ids[rows, :longest], batch.mask[rows, :longest])
    if joined is not None and joined.prompt is not None and joined.prompt.ndim == 3:
        blank = joined.blank[rows] if joined.blank is not None and joined.blank.ndim == 2 else joined.blank
        joined = replace(joined, prompt=joined.prompt[rows], blank=blank)
    if joined is not None and joined.prefix_keys is not None and joined.prefix_keys.ndim == 5:
        assert joined.prefix_values is not None
        joined = Prepended(prefix_keys=joined.prefix_keys[:, rows], prefix_values=joined.prefix_values[:, rows])
    return TogetherRows(rows, own, joined)


def put_together(parts: Sequence[tuple[Tensor, Tensor]]) -> Float[Tensor, "batch seq hidden"]:
    """The states of all rows, (rows, seq, hidden) a part, in the order of their numbers; zeros behind shorter ones."""
    longest = max(states.shape[1] for _, states in parts)
    padded = torch.cat([pad(states, (0, 0, 0, longest - states.shape[1])) for _, states in parts])
    return padded[torch.cat([rows for rows, _ in parts]).argsort()]
