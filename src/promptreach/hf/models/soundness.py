"""The faults of an opened model that no file shows: weights that are not numbers, tokens without a row, and what
does not fit in front of a batch."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedModel

from promptreach.backbone import Backbone, Prepended, TokenBatch
from promptreach.errors import Fault
from promptreach.stored import stored_tensors

_SHOWN = 5


def weight_number_faults(model: PreTrainedModel, name: str = "model") -> list[Fault]:
    """One fault for each weight with entries that are NaN or infinite, up to five of them, and the number of the rest.

    Args:
        model: as it was opened. A weight that is too large for half precision is infinite there.
        name: of the model, for messages.
    """
    found = []
    for key, tensor in stored_tensors(model):
        if tensor.is_meta or not tensor.is_floating_point():
            continue
        wrong = int((~tensor.isfinite()).sum())
        if wrong:
            kind = str(tensor.dtype).removeprefix("torch.")
            narrow = tensor.dtype in (torch.float16, torch.bfloat16)
            remedy = f"open it in float32: {kind} may be too narrow for it" if narrow else "take whole weights"
            seen = f"weight {key!r} with {wrong:,} of {tensor.numel():,} entries that are NaN or infinite"
            found.append(Fault(name, seen, "finite weights", remedy))
    rest = len(found) - _SHOWN
    more = [Fault(name, f"{rest:,} more weights like that", "finite weights")] if rest > 0 else []
    return found[:_SHOWN] + more


def rowless_faults(tokenizer: Any, sequences: Sequence[Sequence[int]], rows: int) -> list[Fault]:
    """The refusal of token ids that the model's embedding matrix, of so many rows, has no row for; none where it has.

    Args:
        tokenizer: says what the tokens are called.
        sequences: token ids of texts.
        rows: of the matrix.
    """
    beyond = Counter(index for ids in sequences for index in set(ids) if index >= rows)
    if not beyond:
        return []
    texts = sum(any(index >= rows for index in ids) for ids in sequences)
    shown = ", ".join(f"{tokenizer.convert_ids_to_tokens(index)!r} ({index})" for index in sorted(beyond)[:_SHOWN])
    more = f" and {len(beyond) - _SHOWN:,} more" if len(beyond) > _SHOWN else ""
    seen = (
        f"{len(tokenizer):,} tokens, where the model has {rows:,} rows; without a row are {shown}{more}, in {texts:,} "
        f"of {len(sequences):,} texts"
    )
    remedy = "resize the model (resize_token_embeddings), or take the tokenizer that belongs to it"
    return [Fault("tokenizer", seen, "a row for every token that occurs", remedy)]


def joined_faults(model: Backbone, batch: TokenBatch, joined: Prepended) -> list[Fault]:
    """The faults of what is joined to a batch: too long, of the wrong shape, or not to be had on this model."""
    faults = []
    total = joined.length + batch.input_ids.shape[1]
    if total > model.max_positions:
        seen = f"{total} positions, {joined.length} of them joined"
        faults.append(Fault("batch", seen, f"at most {model.max_positions}", "shorten the texts or the prompt"))
    own = (len(batch.input_ids),)  # in front, where every example brings its own
    if joined.prompt is not None:
        shape = tuple(joined.prompt.shape)
        if reason := model.lacks("prompt"):
            faults.append(Fault("prompt", f"one for {model.family}", "another method", reason))
        if len(shape) < 2 or shape[:-2] not in ((), own) or shape[-1] != model.embedding_size:
            faults.append(Fault("prompt", f"shape {shape}", f"(prompt, {model.embedding_size})"))
    if joined.blank is not None:
        shape = tuple(joined.blank.shape)
        if joined.prompt is None or shape[:-1] not in ((), own) or shape[-1] != model.embedding_size:
            faults.append(Fault("blank", f"shape {shape}", f"({model.embedding_size},), beside a prompt"))
    prefix = [part for part in (joined.prefix_keys, joined.prefix_values) if part is not None]
    if len(prefix) == 1 or (prefix and joined.prompt is not None):
        faults.append(Fault("joined", "half a prefix, or a prefix and a prompt", "one whole thing to join"))
    if prefix and (reason := model.lacks("prefix")):
        faults.append(Fault("prefix", f"one for {model.family}", "another method", reason))
    for part, size in zip(prefix, (model.head_dim, model.value_dim), strict=False):
        shape = tuple(part.shape)
        fits = (shape[:1], shape[-3:-2], shape[-1:]) == ((model.num_layers,), (model.num_kv_heads,), (size,))
        if len(shape) < 4 or shape[1:-3] not in ((), own) or not fits:
            expected = f"({model.num_layers}, {model.num_kv_heads}, prompt, {size})"
            faults.append(Fault("prefix", f"shape {shape}", expected))
    return faults
