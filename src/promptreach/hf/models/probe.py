"""The traits that a few tokens sent through a model show: who sees whom, and which ways of tuning it allows.

No config says whether a model takes embeddings in place of tokens, whether keys and values in front of the content do
what the same tokens do, or what shape they have. Six tokens show it. Everything here is measured on the model itself;
what it does not allow comes with its reason in words.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from functools import partial
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn
from transformers import DynamicCache, EncoderDecoderCache, PreTrainedModel

from promptreach.errors import UnsupportedModelError
from promptreach.hf.models.ends import logits_of, written_logits_of
from promptreach.hf.models.families import Family
from promptreach.hf.models.sizes import body_of, field, head_count, layer_count, text_config
from promptreach.hf.running.interface import AttentionFunction, through
from promptreach.hf.running.slots import slots_in_front

TOKENS = 6
"""Sent through the model; the second half of them also behind a cache of the first."""
_MOVED = 2e-6
"""The relative difference above which one and the same computation is taken for another."""
Shape = tuple[int, int, int, int]
"""Layers, key/value heads, the size of a key, the size of a value."""
Result = TypeVar("Result")


@dataclass(frozen=True)
class Traits:
    """The traits of one model.

    Attributes:
        both_ways: whether a token sees those behind it.
        hidden_size: of the last hidden states.
        states: the shape of a prefix; None where none can be had.
        prefix_by: how a prefix gets in: as a cache, or at the door of attention; None where it cannot.
        looked_up: whether attention is found by name, so that it can be captured.
        reasons: by ``prompt`` and ``prefix``, why it cannot be had; without an entry it can.
        plain_head: whether logits are one matrix times the last hidden state; otherwise the model's own forward scales
            or caps them.
        reading_calls: how many calls of attention that are found by name an encoder-decoder's encoder makes; they come
            before its decoder's.
    """

    both_ways: bool
    hidden_size: int
    states: Shape | None
    prefix_by: Literal["cache", "door"] | None
    looked_up: bool
    reasons: Mapping[str, str] = dataclass_field(default_factory=dict)
    plain_head: bool = True
    reading_calls: int = 0


def traits_of(module: PreTrainedModel, row: Family | None) -> Traits:
    """The traits of `module`; of an architecture that is understood its row tells them, and nothing has to be tried.

    Raises:
        UnsupportedModelError: as `probe` does.
    """
    if row is None:
        return probe(module)
    config = module.config
    heads = config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    states = (config.num_hidden_layers, getattr(config, "num_key_value_heads", None) or heads, size, size)
    return Traits(row.encoder, config.hidden_size, states, "cache", looked_up=True)


@torch.no_grad()
def probe(module: PreTrainedModel) -> Traits:
    """The traits of `module`, which is in evaluation mode.

    Raises:
        UnsupportedModelError: when it cannot be run on token ids, or gives no hidden states for them.
    """
    body, ids = body_of(module), _tokens(module)
    found = _attempt(lambda: _run(body, input_ids=ids))
    if found is None:
        raise UnsupportedModelError(
            f"{type(module).__name__}, whose forward gives no hidden states for token ids alone",
            ("models that read a text's token ids",),
            "It may need images, sound or a second text beside them.",
        )
    first, second = found
    both_ways = not _same(first[:-1], second[:-1], _MOVED)
    reasons: dict[str, str] = {}
    if reason := _embeddings_reason(body, module.get_input_embeddings(), ids, found):
        reasons["prompt"] = reason
    calls = _calls(body, ids)
    states, by, why = _encoder_prefix(module, ids, found, calls) if both_ways else _decoder_prefix(body, ids, found)
    if by is None:
        reasons["prefix"] = why
    return Traits(both_ways, found.shape[-1], states, by, bool(calls), reasons, _plain_head(module, ids, found))


@torch.no_grad()
def probe_pair(module: PreTrainedModel) -> Traits:
    """The traits of an encoder-decoder, which is in evaluation mode: of its encoder for a prompt, of its decoder for a
    prefix.

    Raises:
        UnsupportedModelError: when it cannot be run on token ids.
    """
    ids = _tokens(module)
    encoder = module.get_encoder()
    read = _attempt(lambda: _run(encoder, input_ids=ids))
    writing = {"encoder_hidden_states": read, "encoder_attention_mask": torch.ones_like(ids)}
    decoder = partial(module.get_decoder(), **writing)
    found = None if read is None else _attempt(lambda: _run(decoder, input_ids=ids))
    if read is None or found is None:
        raise UnsupportedModelError(
            f"{type(module).__name__}, whose encoder and decoder give no hidden states for token ids alone",
            ("models that read and write text",),
        )
    own = _attempt(lambda: module(input_ids=ids, decoder_input_ids=ids, use_cache=False).logits)
    made = _attempt(lambda: written_logits_of(module, found))
    if own is None or made is None or not _same(own, made):
        raise _headless(module)
    reasons: dict[str, str] = {}
    if reason := _embeddings_reason(encoder, module.get_input_embeddings(), ids, read):
        reasons["prompt"] = reason
    states, by, why = _decoder_prefix(decoder, ids, found, lambda cache: EncoderDecoderCache(cache, DynamicCache()))
    if by is None:
        reasons["prefix"] = why
    reading = len(_calls(encoder, ids))
    looked_up = reading > 0 or bool(_calls(module.get_decoder(), ids))
    return Traits(True, found.shape[-1], states, by, looked_up, reasons, plain_head=False, reading_calls=reading)


def _plain_head(module: PreTrainedModel, ids: Tensor, found: Tensor) -> bool:
    """Whether logits are the output layer's alone; True for a model without one.

    Raises:
        UnsupportedModelError: when the logits do not follow from the last hidden states.
    """
    head = module.get_output_embeddings()
    if head is None:
        return True
    own = _attempt(lambda: module(input_ids=ids, use_cache=False).logits)
    if own is not None and _same(own, head(found)):
        return True
    made = _attempt(lambda: logits_of(module, found))
    if own is None or made is None or not _same(own, made):
        raise _headless(module)
    return False


def _headless(module: PreTrainedModel) -> UnsupportedModelError:
    found = f"{type(module).__name__}, whose logits do not follow from its last hidden states"
    return UnsupportedModelError(found, ("models with a language-model head behind the last layer",))


def _tokens(module: PreTrainedModel) -> Tensor:
    """Two rows of token ids that differ in the last one; no padding, which some models count differently."""
    embedding = module.get_input_embeddings()
    weight = embedding.weight
    assert isinstance(weight, Tensor)
    padding = field(text_config(module.config), "pad_token_id")
    usual = [token for token in range(5, len(weight)) if token != padding] or list(range(len(weight)))
    chosen = [usual[(7 * place) % len(usual)] for place in range(TOKENS)]
    other = usual[(7 * TOKENS + 1) % len(usual)]
    return torch.tensor([chosen, [*chosen[:-1], other]], device=weight.device)


def _run(body: Callable[..., Any], **inputs: Any) -> Tensor:
    """The last hidden states, nothing masked and nothing cached unless `inputs` say so."""
    given = inputs.get("input_ids", inputs.get("inputs_embeds"))
    assert given is not None
    mask = torch.ones(given.shape[:2], dtype=torch.long, device=given.device)
    options = {"attention_mask": mask, "use_cache": False, **inputs}
    states: Tensor = body(**options).last_hidden_state
    return states


def _attempt(step: Callable[[], Result]) -> Result | None:
    """The result of a step that a model may not be made for; None where it raises whatever it stumbles over."""
    try:
        return step()
    except Exception:
        return None


def _same(one: Tensor, other: Tensor, room: float = 1e-4) -> bool:
    """Whether two results differ by no more than `room`, or the coarseness of their type, of their largest entry."""
    if one.shape != other.shape:
        return False
    room = max(room, 8 * torch.finfo(one.dtype).eps)
    scale = one.float().abs().max().clamp(min=1e-6)
    return bool((one.float() - other.float()).abs().max() <= room * scale)


def _embeddings_reason(body: PreTrainedModel, embedding: nn.Module, ids: Tensor, found: Tensor) -> str:
    """Why virtual tokens cannot stand in front of the content; empty where they can."""
    if "inputs_embeds" not in inspect.signature(body.forward).parameters:
        return "its forward takes token ids and no embeddings"
    embeddings = embedding(ids)
    given = _attempt(lambda: _run(body, inputs_embeds=embeddings))
    # Gemma 4 looks for the row that an embedding is, and a virtual token is none.
    between = _attempt(lambda: _run(body, inputs_embeds=0.5 * (embeddings + embeddings.roll(1, dims=1))))
    if given is None or between is None:
        return "its forward needs the token ids beside the embeddings, and a virtual token has none"
    scale = getattr(body, "embed_scale", 1.0)
    if scale != 1.0 and not _same(found, given) and _same(found, _run(body, inputs_embeds=scale * embeddings)):
        return (
            f"it multiplies the embeddings of tokens by {scale:.3g} and not those that it is given, so that PEFT, "
            "which gives it all of them, would run every text on it that much too small"
        )
    if not _same(found, given):
        return "it computes something else from embeddings than from the tokens they belong to"
    return ""


def _calls(body: PreTrainedModel, ids: Tensor) -> list[tuple[int, int, int]]:
    """Key/value heads and sizes at every call of attention that is found by name, in order."""
    shapes: list[tuple[int, int, int]] = []

    def look(own: AttentionFunction, name: str, module: Any, arguments: dict[str, Any]) -> Any:
        key, value = arguments["key"], arguments["value"]
        shapes.append((key.shape[1], key.shape[3], value.shape[3]))
        return own(module, **arguments)

    with through(body, look):
        _attempt(lambda: _run(body, input_ids=ids))
    return shapes


def _decoder_prefix(
    body: Callable[..., Any], ids: Tensor, found: Tensor, as_given: Callable[[DynamicCache], Any] = lambda cache: cache
) -> tuple[Shape | None, Literal["cache"] | None, str]:
    """The shape of a decoder's keys and values, if they stand in for the tokens that left them.

    A cache of its own states goes to the decoder `as_given`.
    """
    cache, half = DynamicCache(), TOKENS // 2
    first = _attempt(lambda: _run(body, input_ids=ids[:, :half], past_key_values=as_given(cache), use_cache=True))
    if first is None:
        return None, None, "some of its layers keep a state that is not keys and values"
    count = len(cache.layers)
    held = [layer for layer in cache.layers if getattr(layer, "is_initialized", False)]
    shapes = {(layer.keys.shape[1], layer.keys.shape[3], layer.values.shape[3]) for layer in held}
    if not held:
        return None, None, "it keeps no keys and values"
    if len(held) < len(cache.layers):
        return None, None, f"only {len(held)} of its {count} layers keep keys and values; the others keep another state"
    if len(shapes) > 1:
        return None, None, "its layers keep keys and values of different sizes"
    pairs = [(layer.keys, layer.values) for layer in held]
    again, mask = as_given(DynamicCache(pairs)), torch.ones_like(ids)
    behind = _attempt(lambda: _run(body, input_ids=ids[:, half:], past_key_values=again, attention_mask=mask))
    if behind is None or not _same(found[:, half:], behind):
        return None, None, "keys and values in front of the content do not do what the tokens do that left them"
    return (len(held), *shapes.pop()), "cache", ""


def _encoder_prefix(
    module: PreTrainedModel, ids: Tensor, found: Tensor, calls: list[tuple[int, int, int]]
) -> tuple[Shape | None, Literal["cache", "door"] | None, str]:
    """The shape of an encoder's prefix, if slots in front of keys and values reach every layer."""
    body, count = body_of(module), layer_count(module.config)
    shapes = set(calls) or {_guessed(module)}
    if len(shapes) > 1 or (calls and len(calls) != count):
        return None, None, f"attention is called {len(calls)} times in {count} layers, with several shapes"
    heads, key_size, value_size = shapes.pop()
    if not heads:
        return None, None, "it has no attention"
    shape = (count, heads, key_size, value_size)
    generator = torch.Generator().manual_seed(0)
    keys, values = (torch.randn(count, heads, 2, size, generator=generator).to(found) for size in shape[2:])
    mask = torch.ones(len(ids), TOKENS + 2, dtype=torch.long, device=ids.device)
    if "past_key_values" in inspect.signature(body.forward).parameters:
        pairs = [tuple(part.expand(len(ids), -1, -1, -1) for part in pair) for pair in zip(keys, values, strict=True)]
        moved = _attempt(lambda: _run(body, input_ids=ids, past_key_values=DynamicCache(pairs), attention_mask=mask))
        if moved is not None and not _same(found, moved, _MOVED):
            return shape, "cache", ""
    if not calls:
        return None, None, "it takes no keys and values from outside, and its attention cannot be reached either"
    with slots_in_front(body, keys, values):
        moved = _attempt(lambda: _run(body, input_ids=ids))
    if moved is None or _same(found, moved, _MOVED):
        return None, None, "it takes no keys and values from outside, and its attention has no room for any in front"
    return shape, "door", ""


def _guessed(module: PreTrainedModel) -> tuple[int, int, int]:
    """Heads and sizes as the config gives them, for attention that nobody can look at."""
    text, heads = text_config(module.config), head_count(module.config)
    width = field(text, "hidden_size", "d_model", "dim")
    size = field(text, "head_dim") or (int(width) // heads if heads else 0)
    return heads, int(size), int(size)
