"""Queries, keys and values as attention sees them, layer by layer, from a forward pass of the real model.

What is captured is what the model's own attention function was called with and what it gave. Looking on changes no bit
of the pass, since that function computes it (`promptreach.hf.running.interface`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, overload

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from transformers.masking_utils import sdpa_mask

from promptreach.backbone import Backbone, Prepended, TokenBatch
from promptreach.errors import Fault, UnsupportedModelError, raise_if_any
from promptreach.hf.running.interface import AttentionFunction, through

REBUILT = 1e-4
"""The relative error up to which weights written out count as the model's own; float32 softmax stays far below."""
_ROWS = 4
"""Examples of a batch whose share is told; more would cost more than looking on may."""
_HIDDEN = -1e4
"""An entry of an additive mask below this hides a key; a position bias stays far above."""

Result = TypeVar("Result")


@dataclass(frozen=True, eq=False)
class LayerCapture:
    """The inputs and the outputs of one layer's attention.

    With a prompt of m tokens in front of L content positions there are q = m + L queries, since the prompt asks too;
    with a prefix of m slots there are q = L. Either way there are n = m + L keys, and the first m are the prompt's.

    Attributes:
        layer: which call of attention it was, counted from 0; one a layer on almost every model. Of an encoder-decoder
            the encoder's come first, then of each decoder layer its own and the one across (`EncoderDecoder.part_of`).
        query, key, value: after norms and position encoding. Head h reads key/value head h * kv_heads // heads.
        mask: True where a query sees a key: causality, padding and sliding windows together. Under a sliding window a
            query at padding may see nothing at all, and its output means nothing.
        scale: the factor on q.k before the softmax.
        output: the heads' outputs before the output projection.
        prompt_length: m.
        softcap: c where scores s become c tanh(s / c), or None.
        sinks: one score a head that takes part in the softmax and has no value, or None.
        bias: added to the scores, or None.
    """

    layer: int
    query: Float[Tensor, "batch heads q head_dim"]
    key: Float[Tensor, "batch kv_heads n head_dim"]
    value: Float[Tensor, "batch kv_heads n value_dim"]
    mask: Bool[Tensor, "batch mask_heads q n"]
    scale: float
    output: Float[Tensor, "batch heads q value_dim"]
    prompt_length: int
    softcap: float | None = None
    sinks: Float[Tensor, " heads"] | None = None
    bias: Float[Tensor, "bias_batch bias_heads q n"] | None = None

    @property
    def beside_scores(self) -> tuple[str, ...]:
        """The parts of this softmax beside scaled scores under a mask, in words; empty for plain attention."""
        parts = {"a soft-cap on the scores": self.softcap, "sinks": self.sinks, "a position bias": self.bias}
        return tuple(name for name, part in parts.items() if part is not None)

    def weights(self) -> Float[Tensor, "batch heads q n"]:
        """The attention weights written out; with sinks, which take their part, they add up to less than one."""
        groups = self.query.shape[1] // self.key.shape[1]
        key = self.key.repeat_interleave(groups, dim=1)
        scores = (self.query.float() @ key.float().transpose(2, 3)) * self.scale
        if self.bias is not None:
            scores = scores + self.bias
        if self.softcap is not None:
            scores = self.softcap * torch.tanh(scores / self.softcap)
        scores = scores.masked_fill(~self.mask, -torch.inf)
        if self.sinks is not None:
            sinks = self.sinks.float().view(1, -1, 1, 1).expand(*scores.shape[:3], 1)
            scores = torch.cat([scores, sinks], dim=-1)
        return scores.softmax(-1)[..., : self.key.shape[2]].nan_to_num(0.0)

    def rebuilt_error(self, asked: Bool[Tensor, "batch q"]) -> float:
        """The largest error of the output that `weights` give, at the queries `asked`, over the largest output.

        Above `REBUILT` the model's attention does something that this record does not know.
        """
        groups = self.query.shape[1] // self.key.shape[1]
        rebuilt = self.weights() @ self.value.float().repeat_interleave(groups, dim=1)
        own = self.output.float()
        seen, expected = (part.transpose(1, 2)[asked] for part in (rebuilt, own))
        return float((seen - expected).abs().max() / expected.abs().max().clamp(min=1e-30))


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
        UnsupportedModelError: for a model that computes attention without looking a function up.
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
        InputError, UnsupportedModelError: as `capture` does.
    """
    negative = [layer for layer in layers or () if layer < 0]
    raise_if_any([Fault("layers", str(layer), f"0 to {model.num_layers - 1}") for layer in negative])
    calls = 0

    def look(own: AttentionFunction, name: str, module: Any, arguments: dict[str, Any]) -> Any:
        nonlocal calls
        result = own(module, **arguments)
        if layers is None or calls in layers:
            each(captured(calls, name, module, arguments, result[0], model.front_of(calls, joined)))
        calls += 1
        return result

    with through(model.release(), look):
        model.hidden(batch, joined)
    if not calls:
        reason = "Its attention is computed where nobody can look on; training does not need to."
        raise UnsupportedModelError(f"a capture of {model.name}", ("models that look their attention up",), reason)
    unknown = sorted(layer for layer in set(layers or ()) if layer >= calls)
    raise_if_any([Fault("layers", str(layer), f"0 to {calls - 1}") for layer in unknown])


def require_plain(layer: LayerCapture, name: str) -> None:
    """Refuse a capture of attention that is more than a softmax of scaled scores under a mask.

    Raises:
        UnsupportedModelError: naming what it has beside that.
    """
    if layer.beside_scores:
        found = f"{name}, whose attention has {' and '.join(layer.beside_scores)}"
        raise UnsupportedModelError(found, ("plain softmax attention",))


def captured(
    layer: int, name: str, module: Any, arguments: dict[str, Any], output: Tensor, prompt_length: int
) -> LayerCapture:
    """One call of the attention function of that name, as a record of the layer."""
    query, key = arguments["query"], arguments["key"]
    mask, bias = _mask_and_bias(name, module, arguments)
    for name_of_bias in ("position_bias", "attention_bias"):
        added = arguments.get(name_of_bias)
        if isinstance(added, Tensor):
            bias = added if bias is None else bias + added
    scale = arguments.get("scaling")
    return LayerCapture(
        layer=layer,
        prompt_length=prompt_length,
        query=query,
        key=key,
        value=arguments["value"],
        mask=mask,
        scale=query.shape[-1] ** -0.5 if scale is None else float(scale),
        output=output.transpose(1, 2),
        softcap=arguments.get("softcap"),
        sinks=None if arguments.get("s_aux") is None else arguments["s_aux"].flatten(),
        bias=bias,
    )


def _mask_and_bias(name: str, module: Any, arguments: dict[str, Any]) -> tuple[Tensor, Tensor | None]:
    """Who sees whom, spelled out, and what an additive mask adds to the scores beside that."""
    query, key, mask = arguments["query"], arguments["key"], arguments["attention_mask"]
    shape = (len(query), 1, query.shape[2], key.shape[2])
    ones = torch.ones(shape[2:], dtype=torch.bool, device=query.device)
    if mask is None or mask.ndim == 2:  # left away for being plainly causal or plainly full; or the padding alone
        causal = arguments.get("is_causal")
        causal = getattr(module, "is_causal", True) if causal is None else causal
        seen = ones.tril(0 if mask is None else key.shape[2] - query.shape[2])
        plain = seen if causal and query.shape[2] > 1 and name != "eager" else ones
        spelled = plain if mask is None else plain & mask[:, None, None, : key.shape[2]].bool()
        return spelled.expand(shape), None
    mask = mask[..., : key.shape[2]]
    if mask.dtype == torch.bool:
        return mask.expand(shape[0], mask.shape[1], *shape[2:]), None
    seen = mask > _HIDDEN
    added = mask.masked_fill(~seen, 0.0)
    return seen.expand(shape[0], mask.shape[1], *shape[2:]), added if bool(added.any()) else None


def spelled_mask(*args: Any, **options: Any) -> Tensor:
    """The mask spelled out, where transformers would leave it away for being plainly causal or plainly full.

    For `transformers.AttentionMaskInterface.register`, which says what it is called with.
    """
    mask: Tensor = sdpa_mask(*args, **{**options, "allow_is_causal_skip": False, "allow_is_bidirectional_skip": False})
    return mask


def share_of_prompt(layer: LayerCapture, virtual_tokens: int) -> float:
    """The softmax weight that the first `virtual_tokens` keys receive at each row's last position, in the mean.

    The last position is the last one that a later key could not replace: where padding follows, its last real one.
    Sinks and soft-caps take their part, as in `LayerCapture.weights`. MEASURED on the rows that are looked at.

    Args:
        layer: one layer's attention; the prompt's keys, its own or those of a prefix, stand first among its keys.
        virtual_tokens: how many they are.

    Returns:
        A number in [0, 1]: the mean over heads and over the first rows of the batch.
    """
    rows, keys = min(_ROWS, len(layer.query)), layer.key.shape[2]
    seen = layer.mask[:rows, 0, -1]
    last = (torch.arange(keys, device=seen.device) * seen).amax(dim=1) - (keys - layer.query.shape[2])
    bias = None if layer.bias is None else layer.bias.expand(len(layer.query), *layer.bias.shape[1:])
    shares = []
    for row in range(rows):
        position = max(0, int(last[row]))
        at = slice(position, position + 1)
        one = LayerCapture(
            layer=layer.layer,
            query=layer.query[row : row + 1, :, at].detach(),
            key=layer.key[row : row + 1].detach(),
            value=layer.value[row : row + 1].detach(),
            mask=layer.mask[row : row + 1, :, at],
            scale=layer.scale,
            output=layer.output[row : row + 1, :, at].detach(),
            prompt_length=virtual_tokens,
            softcap=layer.softcap,
            sinks=layer.sinks,
            bias=None if bias is None else bias[row : row + 1, :, at],
        )
        shares.append(float(one.weights()[..., :virtual_tokens].sum(-1).mean()))
    return sum(shares) / len(shares)
