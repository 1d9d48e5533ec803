"""A prompt's keys and values, held once and shared by every request of a causal model.

In a causal model with the prompt in front, no prompt state sees the input. So the keys and values that a soft prompt
leaves at every layer are the same for every input: they are a prefix, computed once. A request then owns only what its
own tokens add; the prompt's part stays one tensor, and a batch sees it through a view that repeats it without memory.

torch's attention wants keys in one piece, so each layer lays prompt and content side by side while it runs, as
transformers' own cache does at every step; nothing of that outlives the layer.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int, Shaped
from safetensors import safe_open
from safetensors.torch import load_file, save
from torch import Tensor
from transformers import Cache, DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from promptreach.errors import AdapterError, Fault, UnsupportedModelError, raise_if_any
from promptreach.files import write_atomically
from promptreach.hf.adapters.folders import load_adapter, misfits
from promptreach.hf.models.families import FAMILIES
from promptreach.hf.models.lengths import CHANGING
from promptreach.hf.models.load import open_model
from promptreach.hf.models.model import OpenModel
from promptreach.hf.running.slots import prefix_of
from promptreach.model_files import safetensors_faults
from promptreach.prompt import Adapter, LowRankUpdate, Prefix, join_mask

FORMAT = "promptreach-cache-1"


class SharedLayer(DynamicLayer):
    """One layer of a request's cache: the shared prompt, and the content that this request has added.

    Reordering, repeating, cropping and resetting move the content only.

    Args:
        prompt_keys, prompt_values: (1, kv_head, prompt, head_dim); never written to.
    """

    def __init__(self, prompt_keys: Tensor, prompt_values: Tensor) -> None:
        super().__init__()
        self.prompt_keys, self.prompt_values = prompt_keys, prompt_values

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **options: Any
    ) -> tuple[Float[Tensor, "batch kv_head n head_dim"], Float[Tensor, "batch kv_head n head_dim"]]:
        """Add the states of new tokens; all keys and values that attention sees, the prompt's first."""
        keys, values = super().update(key_states, value_states)
        shared = (part.expand(len(keys), -1, -1, -1) for part in (self.prompt_keys, self.prompt_values))
        joined = [torch.cat(pair, dim=-2) for pair in zip(shared, (keys, values), strict=True)]
        return joined[0], joined[1]

    @property
    def content_length(self) -> int:
        """The number of positions that this request has added."""
        return self.keys.shape[-2] if self.is_initialized else 0

    def get_seq_length(self) -> int:
        """Positions so far, the prompt's included: transformers counts the next token's position from here."""
        return int(self.prompt_keys.shape[-2] + self.content_length)

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Let beam i continue beam ``beam_idx[i]``."""
        self.batch_select_indices(beam_idx)

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat every sequence of the batch."""
        if self.content_length:
            super().batch_repeat_interleave(repeats)

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep these sequences of the batch."""
        if self.content_length:
            super().batch_select_indices(indices.to(self.keys.device))


@dataclass(frozen=True, eq=False)
class PromptCache:
    """A prompt computed once for one model; what `promptreach.inference.precompute` returns.

    Attributes:
        prefix: the prompt's keys and values, as attention sees them, in the model's dtype.
        model: the model they belong to.
    """

    prefix: Prefix
    model: OpenModel

    @property
    def length(self) -> int:
        """The number of prompt positions."""
        return self.prefix.length

    def request(self) -> Cache:
        """A fresh cache for one batch of any size, made without copying or computing anything of the prompt.

        Give it to the model as ``past_key_values``; one per request, since the content is written into it.
        """
        devices = [like.device for like in self.model.likenesses]
        pairs = zip(self.prefix.keys, self.prefix.values, devices, strict=True)
        return Cache(
            layers=[SharedLayer(keys[None].to(device), values[None].to(device)) for keys, values, device in pairs]
        )

    def inputs(
        self,
        input_ids: Int[Tensor, "batch seq"],
        mask: Shaped[Tensor, "mask_batch mask_seq"] | None = None,
    ) -> dict[str, Any]:
        """The arguments of the model's ``forward`` and ``generate`` for these tokens behind the prompt.

        Args:
            input_ids: the content's tokens, without anything for the prompt.
            mask: 1 or True at content, 0 at padding; None when nothing is padded. A sliding window counts places, so
                padding on the left takes room in it from the prompt, as it does in PEFT.

        Raises:
            InputError: when there is no token, the mask has another shape, or prompt and content together are longer
                than the model's positions.
        """
        raise_if_any(self._faults(input_ids, mask))
        mask = torch.ones_like(input_ids) if mask is None else mask.long()
        return {
            "input_ids": input_ids,
            "attention_mask": join_mask(mask, self.length),
            "past_key_values": self.request(),
            "use_cache": True,
        }

    def save(self, path: str | Path) -> Path:
        """Write keys and values, each (layer, kv_head, prompt, head_dim), as a safetensors file and return its path.

        The file names the weights that it belongs to. Keys are as attention sees them, rotary positions applied.

        Raises:
            OutputError: when the file cannot be written.
        """
        tensors = {name: getattr(self.prefix, name).detach().cpu().contiguous() for name in ("keys", "values")}
        metadata = {"format": FORMAT, "model": self.model.name, "fingerprint": self.model.fingerprint}
        write_atomically(path, save(tensors, metadata))
        return Path(path)

    def _faults(self, input_ids: Tensor, mask: Tensor | None) -> list[Fault]:
        faults = []
        if not input_ids.numel():
            faults.append(Fault("input_ids", f"shape {tuple(input_ids.shape)}", "at least one token"))
        if mask is not None and mask.shape != input_ids.shape:
            faults.append(Fault("mask", f"shape {tuple(mask.shape)}", f"that of input_ids, {tuple(input_ids.shape)}"))
        total, most = self.length + input_ids.shape[1], self.model.max_positions
        if total > most:
            seen = f"{total} positions, {self.length} of them the prompt's"
            faults.append(Fault("input_ids", seen, f"at most {most}", "shorten the text or the prompt"))
        turning = self.model.turning
        if turning is not None and total > turning[1]:
            seen = f"{total} positions, {self.length} of them the prompt's"
            remedy = (
                f"Beyond that this model's {turning[0]} positions are rotated otherwise, and the prompt's keys were "
                "computed before it: run the prompt in front of the text instead"
            )
            faults.append(Fault("input_ids", seen, f"at most {turning[1]}", remedy))
        return faults


def precompute(
    model: OpenModel | PreTrainedModel | str | Path, prompt: Adapter | str | Path, **options: Any
) -> PromptCache:
    """The prompt's keys and values for a model; `promptreach.inference.precompute` is the public name."""
    opened = model if isinstance(model, OpenModel) else open_model(model, **options)
    found = load_adapter(prompt, opened) if isinstance(prompt, (str, Path)) else prompt
    raise_if_any(_faults_of(opened, found))
    assert not isinstance(found, LowRankUpdate)
    prefix = found if isinstance(found, Prefix) else states_of(opened, found.embeddings)
    dtype = opened.vocabulary.dtype
    return PromptCache(Prefix(prefix.keys.to(dtype), prefix.values.to(dtype), found.certificate), opened)


def load_cache(path: str | Path, model: OpenModel) -> PromptCache:
    """The cache that `PromptCache.save` wrote, for the same weights.

    Raises:
        AdapterError: when the file is missing, damaged, something else, or made with other weights.
    """
    path = Path(path)
    raise_if_any(safetensors_faults(path, "a saved cache"), AdapterError)
    with safe_open(str(path), "pt") as file:
        metadata, names = file.metadata() or {}, set(file.keys())
    if metadata.get("format") != FORMAT or names != {"keys", "values"}:
        raise AdapterError(Fault(str(path), f"format {metadata.get('format')!r}", f"{FORMAT!r} with keys and values"))
    if metadata.get("fingerprint") != model.fingerprint:
        remedy = "precompute it again: keys and values of other weights mean nothing here"
        raise AdapterError(Fault(str(path), f"a cache of {metadata.get('model')}", f"one of {model.name}", remedy))
    tensors = load_file(path)
    prefix = Prefix(tensors["keys"], tensors["values"])
    raise_if_any(misfits(prefix, model, str(path)), AdapterError)
    return PromptCache(prefix, model)


@torch.no_grad()
def states_of(model: OpenModel, embeddings: Float[Tensor, "prompt hidden"]) -> Prefix:
    """The keys and values that these embeddings leave at every layer when nothing stands in front of them."""
    cache = DynamicCache()  # without a config it keeps every position, also those that a sliding window would drop
    inputs = embeddings.to(model.vocabulary, copy=True)[None]  # CTRL scales what it is given in place
    model.body(inputs_embeds=inputs, past_key_values=cache, use_cache=True)
    return prefix_of(cache)


def rerotated(prefix: Prefix, model: OpenModel, by: int) -> Prefix:
    """The prefix with its keys rotated to `by` positions further on; unchanged where the model does not rotate keys.

    A prefix of m slots stands at positions 0 to m - 1 and pushes the content to m. With n slots in its place the
    content starts at n, and every query is rotated by n - m positions less. Rotating the keys by as much restores every
    score: a rotary score depends on the difference of two positions alone.

    Where positions are embedded in the content's states instead (GPT-2), content that starts elsewhere is other
    content, and nothing done to the prefix makes up for it.

    Raises:
        UnsupportedModelError: when the model's rotation changes with the length of the input, or is not understood.
    """
    if model.row is None:
        reason = "How they are rotated is not known."
        raise UnsupportedModelError(f"{model.family}, whose keys would have to move", tuple(FAMILIES), reason)
    if not model.row.rotary:
        return prefix
    rotary = model.model.base_model.rotary_emb
    kind = getattr(rotary, "rope_type", "default")
    if kind in CHANGING:
        raise UnsupportedModelError(f"{model.name} with {kind} rotary positions", ("fixed rotary positions",))
    frequencies = rotary.inv_freq.double().to(prefix.keys.device)
    return Prefix(_rotated(prefix.keys, by * frequencies), prefix.values, prefix.certificate)


def _faults_of(model: OpenModel, prompt: Adapter) -> list[Fault]:
    if model.both_ways:
        why = (
            "In an encoder the prompt's positions attend to the input, so from the second layer on their keys and "
            "values are different for every input: there is nothing that could be kept. A causal model's prompt "
            "never sees the input"
        )
        return [Fault("model", f"{model.name}, an encoder", "a causal language model", why)]
    if isinstance(prompt, LowRankUpdate):
        remedy = "A LoRA update has no keys of its own: merge it into the weights"
        return [Fault("prompt", "a LowRankUpdate", "a SoftPrompt or a Prefix", remedy)]
    if reason := model.lacks("prefix"):
        return [Fault("model", f"{model.name}: {reason}", "a model that keeps nothing but keys and values", "")]
    return misfits(prompt, model, "prompt")


def _rotated(
    keys: Float[Tensor, "layer kv_head prompt head_dim"], angles: Float[Tensor, " half"]
) -> Float[Tensor, "layer kv_head prompt head_dim"]:
    """Coordinates i and i + half turned by angle i, in float64; any beyond twice half stay."""
    half = len(angles)
    first, second, rest = keys.double().split([half, half, keys.shape[-1] - 2 * half], dim=-1)
    cosine, sine = angles.cos(), angles.sin()
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine, rest], dim=-1).to(keys)
