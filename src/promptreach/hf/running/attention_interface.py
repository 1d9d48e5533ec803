"""A whole model on `promptreach.fast_attention.attend`: ``attn_implementation="promptreach"``.

Importing `promptreach.hf` registers the name with transformers. What tolerance and which method a model uses stands in
its own config, so two models in one process may differ and nothing is global; without it attention is exact.

transformers asks the implementation for masks, too. A mask of size queries x keys would defeat the purpose, so plain
causal and plain full attention are told by the padding alone: (batch, n) says causal, (batch, 1, 1, n) says full. Any
other mask, a sliding window say, is spelled out, and such a layer is computed exactly.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import bidirectional_mask_function, causal_mask_function

from promptreach.errors import Fault, InputError, UnsupportedModelError, raise_if_any
from promptreach.fast_attention.attend import attend, method_faults
from promptreach.fast_attention.report import AttentionReport
from promptreach.fast_attention.tolerance import request_faults
from promptreach.hf.models.model import OpenModel
from promptreach.hf.running.capture import spelled_mask

NAME = "promptreach"
_FIELD = "promptreach_attention"
_FOREIGN = ("softcap", "s_aux", "position_bias")

_reports: ContextVar[list[AttentionReport] | None] = ContextVar("promptreach_attention_reports", default=None)


def use_attention(
    model: OpenModel | PreTrainedModel, *, method: str = "auto", tol: float = 1e-2, relative_to: str = "range"
) -> None:
    """Let this model compute its attention with `promptreach.fast_attention.attend`; other models stay as they are.

    The choice is kept in the model's config and saved with it. ``model.set_attn_implementation("sdpa")`` undoes it.

    Raises:
        InputError: for a method, tolerance or unit that `attend` does not know.
    """
    raise_if_any(method_faults(method) + request_faults(tol, relative_to))
    module = model.model if isinstance(model, OpenModel) else model
    setattr(module.config, _FIELD, {"method": method, "tol": tol, "relative_to": relative_to})
    module.set_attn_implementation(NAME)


@contextmanager
def attention_reports() -> Iterator[list[AttentionReport]]:
    """The reports of `attend` for every layer that runs inside the block, in the order of the forward pass."""
    kept: list[AttentionReport] = []
    token = _reports.set(kept)
    try:
        yield kept
    finally:
        _reports.reset(token)


def attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **options: Any,
) -> tuple[Tensor, None]:
    """Attention as transformers calls it: (batch, heads, q, head_dim) in, (batch, q, heads, value_dim) out."""
    foreign = [name for name in _FOREIGN if options.get(name) is not None]
    if foreign:
        raise UnsupportedModelError(f"attention with {', '.join(foreign)}", ("plain softmax attention",))
    if dropout:
        raise InputError(Fault("attention dropout", str(dropout), "0", "call model.eval(), or set it to 0"))
    if attention_mask is not None and attention_mask.ndim == 4 and attention_mask.shape[2] != 1:
        output, _ = sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **options)
        return output, None
    causal = module.is_causal if attention_mask is None else attention_mask.ndim == 2
    padding = None if attention_mask is None else attention_mask.reshape(-1, key.shape[2])
    chosen = getattr(module.config, _FIELD, None) or {"method": "exact"}
    # Keys of one batch row are the same for all of its heads: the mask gets no axis for them.
    output, report = attend(
        query, key, value, causal=causal and query.shape[2] > 1, mask=padding, scale=scaling, **chosen
    )
    kept = _reports.get()
    if kept is not None:
        kept.append(report)
    return output.transpose(1, 2).contiguous(), None


def mask(
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: int = 0,
    kv_offset: int = 0,
    mask_function: Callable[..., Any] = causal_mask_function,
    attention_mask: Tensor | None = None,
    device: torch.device | str = "cpu",
    **options: Any,
) -> Tensor:
    """The padding alone where that says it all, otherwise the mask spelled out."""
    aligned = kv_offset == 0 and (attention_mask is None or attention_mask.shape[-1] == kv_length)
    if aligned and mask_function in (causal_mask_function, bidirectional_mask_function):
        padding = attention_mask
        if padding is None:
            padding = torch.ones(batch_size, kv_length, dtype=torch.bool, device=device)
        if mask_function is bidirectional_mask_function:
            return padding[:, None, None].bool()
        if q_offset + q_length == kv_length:
            return padding.bool()
    return spelled_mask(
        batch_size,
        q_length,
        kv_length,
        q_offset,
        kv_offset,
        mask_function=mask_function,
        attention_mask=attention_mask,
        device=device,
        **options,
    )


def is_registered() -> bool:
    """Whether transformers, asked for this name, finds this module's attention and mask."""
    return AttentionInterface().get(NAME) is attention and AttentionMaskInterface().get(NAME) is mask


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, mask)
