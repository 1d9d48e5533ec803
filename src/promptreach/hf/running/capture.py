"""Queries, keys and values as attention sees them, layer by layer, from a forward pass of the real model.

transformers lets an attention function be registered by name and chosen in the config. One is registered here; it
hands what it receives to whoever is listening and computes attention as the model would. No module code is patched,
and the model's own choice is restored afterwards, also when something fails.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar, overload

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from promptreach.backbone import Backbone, Prepended, TokenBatch
from promptreach.errors import Fault, raise_if_any

_NAME = "promptreach_capture"

Result = TypeVar("Result")


@dataclass(frozen=True, eq=False)
class LayerCapture:
    """The inputs and the outputs of one layer's attention.

    With a prompt of m tokens in front of L content positions there are q = m + L queries, since the prompt asks too;
    with a prefix of m slots there are q = L. Either way there are n = m + L keys, and the first m are the prompt's.

    Attributes:
        layer: the layer's index.
        query, key, value: after norms and position encoding. Head h reads key/value head h * kv_heads // heads.
        mask: True where a query sees a key: causality, padding and sliding windows together. Under a sliding window a
            query at padding may see nothing at all, and its output means nothing.
        scale: the factor on q.k before the softmax.
        output: the heads' outputs before the output projection.
        prompt_length: m.
    """

    layer: int
    query: Float[Tensor, "batch heads q head_dim"]
    key: Float[Tensor, "batch kv_heads n head_dim"]
    value: Float[Tensor, "batch kv_heads n value_dim"]
    mask: Bool[Tensor, "batch 1 q n"]
    scale: float
    output: Float[Tensor, "batch heads q value_dim"]
    prompt_length: int


@overload
def capture(
    model: Backbone, batch: TokenBatch, joined: Prepended | None = None, layers: Sequence[int] | None = None
) -> list[LayerCapture]: ...
@overload
def capture(
    model: Backbone,
    batch: TokenBatch,
    joined: Prepended | None = None,
    layers: Sequence[int] | None = None,
    *,
    reduce: Callable[[LayerCapture], Result],
) -> list[Result]: ...
def capture(
    model: Backbone,
    batch: TokenBatch,
    joined: Prepended | None = None,
    layers: Sequence[int] | None = None,
    *,
    reduce: Callable[[LayerCapture], Any] | None = None,
) -> list[Any]:
    """The captures of `layers` (None: of all), first layer first, or what `reduce` makes of each.

    A deep model's queries and keys may not fit into memory together; `reduce` sees one layer at a time.

    Raises:
        InputError: for a layer that the model does not have, and as `Backbone.hidden` does.
    """
    kept: list[Any] = []
    visit(model, batch, lambda layer: kept.append(layer if reduce is None else reduce(layer)), joined, layers)
    return kept


@torch.no_grad()
def visit(
    model: Backbone,
    batch: TokenBatch,
    each: Callable[[LayerCapture], None],
    joined: Prepended | None = None,
    layers: Sequence[int] | None = None,
) -> None:
    """Call `each` with the capture of every layer in `layers` (None: all), in the order of the forward pass.

    Raises:
        InputError: for a layer that the model does not have, and as `Backbone.hidden` does.
    """
    wanted = set(range(model.num_layers) if layers is None else layers)
    unknown = sorted(wanted - set(range(model.num_layers)))
    raise_if_any([Fault("layers", str(layer), f"0 to {model.num_layers - 1}") for layer in unknown])
    prompt_length = joined.length if joined else 0

    def listen(layer: int, seen: dict[str, Any]) -> None:
        if layer in wanted:
            each(LayerCapture(layer=layer, prompt_length=prompt_length, **seen))

    with _listening(model.release(), listen):
        model.hidden(batch, joined)


_Listener = Callable[[int, dict[str, Any]], None]
_listener: ContextVar[_Listener] = ContextVar("promptreach_listener")


@contextmanager
def _listening(module: Any, listen: _Listener) -> Iterator[None]:
    before = module.config._attn_implementation
    token = _listener.set(listen)
    try:
        module.set_attn_implementation(_NAME)
        yield
    finally:
        module.set_attn_implementation(before)
        _listener.reset(token)


def _attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor,
    scaling: float,
    **options: Any,
) -> tuple[Tensor, None]:
    """Scaled dot-product attention, told to the listener."""
    output, _ = sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **options)
    seen = {"query": query, "key": key, "value": value, "mask": attention_mask}
    _listener.get()(module.layer_idx, {**seen, "scale": float(scaling), "output": output.transpose(1, 2)})
    return output, None


def spelled_mask(*args: Any, **options: Any) -> Tensor:
    """The mask spelled out, where transformers would leave it away for being plainly causal or plainly full.

    For `transformers.AttentionMaskInterface.register`, which says what it is called with.
    """
    mask: Tensor = sdpa_mask(*args, **{**options, "allow_is_causal_skip": False, "allow_is_bidirectional_skip": False})
    return mask


AttentionInterface.register(_NAME, _attend)
AttentionMaskInterface.register(_NAME, spelled_mask)
