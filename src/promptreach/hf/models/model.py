"""An opened model: the Hugging Face module behind the protocol that training and the audit ask for.

Inputs are joined exactly as PEFT joins them, so that an adapter trained here gives the same numbers in a `PeftModel`:
a prompt goes in front of the input embeddings, a prefix goes in as a cache, and both push the content's positions back.
"""

import hashlib
import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from typing import Any, Literal

import torch
from jaxtyping import Float
from peft import LoraConfig, TaskType
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel

from promptreach.backbone import Origin, Prepended, TokenBatch
from promptreach.errors import Fault, InputError, raise_if_any
from promptreach.hf.adapters._lora import AttachedLora, attached
from promptreach.hf.adapters.unipelt import AttachedUnipelt
from promptreach.hf.adapters.unipelt import attached as attached_unipelt
from promptreach.hf.models._untrusted import encoded
from promptreach.hf.models.families import Family, family_of, task_of
from promptreach.hf.running.capture import capture
from promptreach.prompt import Prefix, join_mask


class OpenModel:
    """A frozen model with its tokenizer; fulfils `promptreach.backbone.Backbone`.

    Args:
        model: the module. It is put into evaluation mode and its parameters are frozen.
        tokenizer: a transformers tokenizer; None leaves everything but `tokenize` usable.
        name: what to call it, usually its hub id or folder; the default is what the module says of itself.
        task: ``encoder`` or ``causal``; the default is read from the config.
        origin: how `open_model` opened it; None for a module that was there already.

    Attributes:
        model, tokenizer, name, task, origin: as given.
        row: where this architecture keeps its parts.
        hidden_size, num_layers, num_heads, num_kv_heads, head_dim, max_positions: as in the protocol.

    Raises:
        UnsupportedModelError: when the architecture is not in `promptreach.hf.models.families.FAMILIES`.
        InputError: when `task` is ``causal`` and the model is an encoder or has no language-model head.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: Any = None,
        name: str = "",
        task: Literal["encoder", "causal"] | None = None,
        origin: Origin | None = None,
    ) -> None:
        config = model.config
        self.row: Family = family_of(config)
        self.task: Literal["encoder", "causal"] = task_of(config, self.row, task)
        if self.task == "causal" and model.get_output_embeddings() is None:
            raise InputError(Fault("task", f"'causal' for a {type(model).__name__}", "'encoder': it has no head"))
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.origin = origin
        self.name = name or config.name_or_path or type(model).__name__
        self.family = self.row.name
        self.hidden_size: int = config.hidden_size
        self.num_layers: int = config.num_hidden_layers
        self.num_heads: int = config.num_attention_heads
        self.num_kv_heads: int = getattr(config, "num_key_value_heads", None) or self.num_heads
        self.head_dim: int = getattr(config, "head_dim", None) or self.hidden_size // self.num_heads
        self.max_positions: int = self.row.max_positions(config)

    @property
    def layers(self) -> list[nn.Module]:
        """The layers, first to last."""
        layers = self.model.base_model.get_submodule(self.row.layers)
        return list(layers.children())

    @cached_property
    def fingerprint(self) -> str:
        """A SHA-256 of the config and of every weight's bytes; about half a second for a gigabyte."""
        config = self.model.config.to_dict()
        # Where a model lies and which release wrote it say nothing of what it computes.
        for passing in ("_name_or_path", "transformers_version", "_attn_implementation", "dtype", "torch_dtype"):
            config.pop(passing, None)
        digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
        for name, tensor in sorted(self.model.named_parameters()):
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy())
        return digest.hexdigest()

    @property
    def vocabulary(self) -> Float[Tensor, "vocab hidden"]:
        """The input embedding rows, detached."""
        return self._embedding.weight.detach()

    @property
    def end_token(self) -> int | None:
        """The tokenizer's end-of-text token; None where it has none, or where there is no tokenizer."""
        token: int | None = getattr(self.tokenizer, "eos_token_id", None)
        return token

    def tokenize(self, texts: Sequence[str], special_tokens: bool = True) -> list[list[int]]:
        """Token ids of each text, not truncated, with the special tokens the model expects around a text.

        Raises:
            InputError: when the model was opened without a tokenizer.
        """
        if self.tokenizer is None:
            raise InputError(Fault("tokenizer", "None", "a tokenizer", "pass tokenizer= to open_model"))
        if not texts:
            return []
        options = {"add_special_tokens": special_tokens, "truncation": False, "verbose": False}
        return [list(ids) for ids in encoded(self.tokenizer, list(texts), **options)["input_ids"]]

    def batch(self, sequences: Sequence[Sequence[int]]) -> TokenBatch:
        """The sequences padded on the right to the longest, on the model's device.

        Raises:
            InputError: naming every sequence that is empty, or when there is none.
        """
        faults = [
            Fault(f"sequence {i}", "no token", "at least one token") for i, ids in enumerate(sequences) if not ids
        ]
        raise_if_any(faults if sequences else [Fault("sequences", "none", "at least one")], InputError)
        longest = max(map(len, sequences))
        padding = getattr(self.tokenizer, "pad_token_id", None) or 0
        rows = [[*ids, *[padding] * (longest - len(ids))] for ids in sequences]
        lengths = torch.tensor([[len(ids)] for ids in sequences])
        device = self._embedding.weight.device
        return TokenBatch(torch.tensor(rows, device=device), (torch.arange(longest) < lengths).to(device))

    def hidden(self, batch: TokenBatch, joined: Prepended | None = None) -> Float[Tensor, "batch seq hidden"]:
        """The last hidden states (after the final norm) at the batch's own positions, the joined ones cut off.

        Gradients reach the tensors of `joined`.

        Raises:
            InputError: when prompt and content together are longer than `max_positions`, or `joined` does not fit.
        """
        states: Tensor = self.model.base_model(**self.inputs(batch, joined)).last_hidden_state
        return states[:, states.shape[1] - batch.input_ids.shape[1] :]

    def inputs(self, batch: TokenBatch, joined: Prepended | None = None) -> dict[str, Any]:
        """The arguments of the base model's forward for this batch with `joined` in front.

        Token ids, rather than their embeddings, go in wherever nothing is put between them: RoBERTa counts positions
        from the ids, and with a cache from nowhere else.
        """
        joined = joined or Prepended()
        raise_if_any(self._faults(batch, joined), InputError)
        given: dict[str, Any] = {
            "attention_mask": join_mask(batch.mask.long(), joined.length),
            "use_cache": False,
        }
        if joined.prompt is not None:
            content = self._embedding(batch.input_ids)
            prompt = joined.prompt.to(content).expand(content.shape[0], -1, -1)
            return {**given, "inputs_embeds": torch.cat([prompt, content], dim=1)}
        if joined.prefix_keys is not None and joined.prefix_values is not None:
            given["past_key_values"] = self._cache(joined.prefix_keys, joined.prefix_values, len(batch.input_ids))
        return {**given, "input_ids": batch.input_ids}

    def vocabulary_logits(self, hidden: Float[Tensor, "... hidden"]) -> Float[Tensor, "... vocab"]:
        """Next-token logits from last hidden states; causal models only.

        Raises:
            InputError: for an encoder.
        """
        if self.task != "causal":
            raise InputError(Fault("model", f"{self.name}, opened as an encoder", "a causal language model"))
        logits: Tensor = self.model.get_output_embeddings()(hidden)
        return logits

    def cache_of(self, token_ids: Sequence[int]) -> Prefix:
        """The keys and values that these tokens leave at every layer: a prefix that the model has seen before.

        Raises:
            InputError: for no token, or more than `max_positions`.
        """
        pairs = capture(self, self.batch([token_ids]), reduce=lambda layer: (layer.key[0], layer.value[0]))
        keys, values = zip(*pairs, strict=True)
        return Prefix(torch.stack(keys), torch.stack(values))

    def low_rank(self, rank: int, alpha: float, seed: int) -> AbstractContextManager[AttachedLora]:
        """Attach LoRA to the query and value projections of every layer; the update starts at zero.

        GPT-2 computes queries, keys and values with one matrix, so there the update covers the keys as well. On
        leaving, the model is bit for bit what it was.

        Args:
            rank: columns of each update.
            alpha: the update is scaled by alpha / rank.
            seed: for the first factor; the second starts at zero. The global generator is left alone.
        """
        config = LoraConfig(
            r=rank,
            lora_alpha=alpha,
            target_modules=list(self.row.lora_targets),
            fan_in_fan_out=self.row.transposed,
            task_type=self.peft_task,
        )
        return self.lora(config, seed)

    def lora(self, config: LoraConfig, seed: int) -> AbstractContextManager[AttachedLora]:
        """Attach the LoRA that `config` describes, for the length of a `with` block."""
        _ = self.fingerprint  # taken before the weights get company
        return attached(self.model, config, seed)

    def unipelt(self, start: Prefix, rank: int, bottleneck: int, seed: int) -> AbstractContextManager[AttachedUnipelt]:
        """Attach UniPELT to every layer: a gated prefix, gated LoRA and a gated adapter, see `hf.adapters.unipelt`.

        It joins no position, so nothing is passed to `hidden`. Sequences must come whole: with a cache the gates could
        not see what came before. On leaving, the model is bit for bit what it was.

        Args:
            start: what the gated prefix starts as; its gate starts at one half.
            rank: of the updates of the query and value projections, which start at zero.
            bottleneck: of the adapters behind the feed-forward sublayers, which start at zero.
            seed: for the factors that do not start at zero. The global generator is left alone.

        Raises:
            InputError: when it is attached already.
        """
        return attached_unipelt(self.model, self.layers, self.row, start, rank, bottleneck, seed)

    @property
    def peft_task(self) -> TaskType:
        """PEFT's name for what this model is for."""
        return TaskType.CAUSAL_LM if self.task == "causal" else TaskType.FEATURE_EXTRACTION

    def release(self) -> PreTrainedModel:
        """The Hugging Face module itself."""
        return self.model

    @property
    def _embedding(self) -> nn.Embedding:
        embedding: nn.Embedding = self.model.get_input_embeddings()
        return embedding

    def _cache(self, keys: Tensor, values: Tensor, batch_size: int) -> DynamicCache:
        pairs = []
        for layer, key, value in zip(self.layers, keys, values, strict=True):
            like = next(layer.parameters())  # with a device map, layers lie on different devices
            pairs.append(tuple(part.to(like).expand(batch_size, -1, -1, -1) for part in (key, value)))
        return DynamicCache(pairs)

    def _faults(self, batch: TokenBatch, joined: Prepended) -> list[Fault]:
        faults = []
        total = joined.length + batch.input_ids.shape[1]
        if total > self.max_positions:
            seen = f"{total} positions, {joined.length} of them joined"
            faults.append(Fault("batch", seen, f"at most {self.max_positions}", "shorten the texts or the prompt"))
        own = (len(batch.input_ids),)  # in front, where every example brings its own
        if joined.prompt is not None:
            shape = tuple(joined.prompt.shape)
            if len(shape) < 2 or shape[:-2] not in ((), own) or shape[-1] != self.hidden_size:
                faults.append(Fault("prompt", f"shape {shape}", f"(prompt, {self.hidden_size})"))
        prefix = [part for part in (joined.prefix_keys, joined.prefix_values) if part is not None]
        if len(prefix) == 1 or (prefix and joined.prompt is not None):
            faults.append(Fault("joined", "half a prefix, or a prefix and a prompt", "one whole thing to join"))
        for part in prefix:
            shape = tuple(part.shape)
            fits = (shape[:1], shape[-3:-2], shape[-1:]) == ((self.num_layers,), (self.num_kv_heads,), (self.head_dim,))
            if len(shape) < 4 or shape[1:-3] not in ((), own) or not fits:
                expected = f"({self.num_layers}, {self.num_kv_heads}, prompt, {self.head_dim})"
                faults.append(Fault("prefix", f"shape {shape}", expected))
        return faults


@torch.no_grad()
def layer_inputs(model: OpenModel, batch: TokenBatch, joined: Prepended | None = None) -> list[Tensor]:
    """The states that enter each layer, (batch, seq, hidden), first layer first.

    With a prompt the joined positions are part of the sequence; a prefix adds none.

    Raises:
        InputError: as `OpenModel.hidden` does.
    """
    outputs = model.model.base_model(**model.inputs(batch, joined), output_hidden_states=True)
    return list(outputs.hidden_states[:-1])
