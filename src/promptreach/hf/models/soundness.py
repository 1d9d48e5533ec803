"""The faults of an opened model that no file shows: weights that are not numbers, tokens without a row."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from promptreach.errors import Fault

_SHOWN = 5


def weight_number_faults(model: nn.Module, name: str = "model") -> list[Fault]:
    """One fault for each weight with entries that are NaN or infinite, up to five of them, and the number of the rest.

    Args:
        model: as it was opened. A weight that is too large for half precision is infinite there.
        name: of the model, for messages.
    """
    found = []
    for key, tensor in model.named_parameters():
        if tensor.is_meta or not tensor.is_floating_point():
            continue
        wrong = int((~tensor.detach().isfinite()).sum())
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
