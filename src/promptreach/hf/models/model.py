"""An opened model: the Hugging Face module behind the protocol that training and the audit ask for.

Inputs are joined exactly as PEFT joins them, so that an adapter trained here gives the same numbers in a `PeftModel`:
a prompt goes in front of the input embeddings, a prefix goes in as a cache, and both push the content's positions back.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from peft import LoraConfig, TaskType
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel

from promptreach.backbone import ModelTask, Origin, Prepended, TokenBatch
from promptreach.checkpointing import recomputed
from promptreach.errors import Fault, InputError, ModelError, UnsupportedModelError, raise_if_any
from promptreach.hf.adapters._lora import AttachedLora, attachable, attached, lora_targets
from promptreach.hf.adapters.unipelt import AttachedUnipelt
from promptreach.hf.adapters.unipelt import attached as attached_unipelt
from promptreach.hf.models._untrusted import encoded
from promptreach.hf.models.continuations import continued
from promptreach.hf.models.ends import embedded_vocabulary, embedding_faults, logits_of
from promptreach.hf.models.families import Family, family_of, row_of, task_of
from promptreach.hf.models.lengths import max_positions, parts_of, put_together, turning_length
from promptreach.hf.models.probe import Traits, traits_of
from promptreach.hf.models.sizes import body_of, head_count, inner_parameters, layer_count, layers_of, size_faults
from promptreach.hf.models.soundness import joined_faults, rowless_faults
from promptreach.hf.running.capture import capture
from promptreach.hf.running.slots import prefix_of, slots_in_front
from promptreach.prompt import Prefix, join_mask
from promptreach.stored import (
    check_gradients,
    fingerprint_of,
    is_plain,
    matrix_entries,
    packing_of,
)


class OpenModel:
    """A frozen model with its tokenizer; fulfils `promptreach.backbone.Backbone`.

    Args:
        model: the module. It is put into evaluation mode and its parameters are frozen.
        tokenizer: a transformers tokenizer; None leaves everything but `tokenize` usable.
        name: what to call it; the default is what the module says of itself.
        task: ``encoder`` or ``causal``; the default is read from the config.
        origin: how `open_model` opened it; None for a module that was there already.

    Attributes:
        model, tokenizer, name, task, origin: as given.
        row: where this architecture keeps its parts; None where its weights are not understood, which only limits and
            UniPELT ask for.
        packing: the scheme by which its weights are quantised; empty where they are numbers as they are.
        traits: what the model showed of itself when it was opened.
        checkpointing: whether layers compute again what they would else keep for gradients, see `open_model`.
        hidden_size and all further sizes: as in the protocol.

    Raises:
        UnsupportedModelError: when it cannot be run on token ids alone, or quantised weights hand no gradient on.
        ModelError: for a config without sizes, or an input embedding that is no lookup.
        InputError: when `task` is ``causal`` of an encoder or without a head; for an encoder-decoder.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: Any = None,
        name: str = "",
        task: ModelTask | None = None,
        origin: Origin | None = None,
    ) -> None:
        config = model.config
        self.task: ModelTask = self._purpose(model, task)
        if self.task == "causal" and model.get_output_embeddings() is None:
            raise InputError(Fault("task", f"'causal' for a {type(model).__name__}", "'encoder': it has no head"))
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.origin = origin
        self.checkpointing = bool(origin and origin.options.get("gradient_checkpointing"))
        self.name = name or config.name_or_path or type(model).__name__
        self.family: str = config.model_type
        faults = size_faults(config) + embedding_faults(model)
        raise_if_any(faults, ModelError)
        self.row: Family | None = family_of(config)
        self.packing = packing_of(model)
        if self.packing:
            check_gradients(model, self.packing)
        self.traits: Traits = self._probe(model, self.row)
        self.hidden_size: int = self.traits.hidden_size
        self.embedding_size: int = self._table.shape[1]
        self.num_heads: int = head_count(config)
        guess = (layer_count(config), self.num_heads, *(2 * (self.hidden_size // max(1, self.num_heads),)))
        self.num_layers, self.num_kv_heads, self.head_dim, self.value_dim = self.traits.states or guess
        self.max_positions: int = max_positions(model)

    @property
    def body(self) -> PreTrainedModel:
        """The part of the model that ends in hidden states."""
        return body_of(self.model)

    @cached_property
    def layers(self) -> list[nn.Module]:
        """The layers, first to last; none where the model runs one of them several times."""
        return layers_of(self.body, layer_count(self.model.config))

    @property
    def both_ways(self) -> bool:
        """Whether a token sees those behind it, as in an encoder."""
        return self.traits.both_ways

    @property
    def inner_parameters(self) -> list[Tensor]:
        """The parameters that do the work of a forward pass: no embedding and no output layer among them."""
        parts: list[Tensor] = [weight for layer in self.layers for weight in layer.parameters()]
        return parts or inner_parameters(self.model)

    def inner_entries(self, least_dims: int = 1) -> int:
        """The numbers that do the work of a forward pass, in weights of at least so many dimensions; packed ones as if
        they were plain."""
        if self.packing:
            return sum(map(matrix_entries, self.layers)) or matrix_entries(self.model)
        return sum(weight.numel() for weight in self.inner_parameters if weight.ndim >= least_dims)

    @property
    def unread(self) -> str:
        """Why its weights cannot be taken apart; empty where they can."""
        if self.packing:
            return f"its weights are quantised by {self.packing}, and not numbers as they are"
        return "" if self.row is not None else f"where the weights of {self.family} stand is not known"

    def lacks(self, method: str, init: str = "") -> str:
        """Why a tuning method, or that start of it, is not to be had on this architecture; empty where it is."""
        if method == "lora":
            return self._lacks_lora
        if method == "unipelt":
            return self.unread
        if method == "full":
            return self.unread if self.packing else ""
        reason = self.traits.reasons.get(method, "")
        if (method, init) == ("prefix", "text") and self.both_ways and not self.traits.looked_up:
            return reason or "its attention cannot be looked at, so no text leaves keys and values to start from"
        return reason

    @cached_property
    def fingerprint(self) -> str:
        """As `promptreach.stored.fingerprint_of` has it."""
        return fingerprint_of(self.model)

    @cached_property
    def vocabulary(self) -> Float[Tensor, "vocab embedding"]:
        """The embedding of every token as the first layer gets it, detached; scaled where the model scales it."""
        return embedded_vocabulary(self._embedding)

    def with_tokenizer(self, tokenizer: Any) -> "OpenModel":
        """The same module behind another tokenizer; a process that opens it anew takes that one too."""
        origin = self.origin and replace(self.origin, options={**self.origin.options, "tokenizer": tokenizer})
        return type(self)(self.model, tokenizer, self.name, self.task, origin)

    @property
    def reading(self) -> "OpenModel":
        """The model that reads labelled texts: this one; of an encoder-decoder its encoder alone."""
        return self

    @property
    def end_token(self) -> int | None:
        """The tokenizer's end-of-text token; None where it has none, or where there is no tokenizer."""
        token: int | None = getattr(self.tokenizer, "eos_token_id", None)
        raise_if_any(rowless_faults(self.tokenizer, [[token]], len(self._table)) if token is not None else [])
        return token

    def tokenize(self, texts: Sequence[str], special_tokens: bool = True) -> list[list[int]]:
        """Token ids of each text, not truncated, with the special tokens the model expects around a text.

        Raises:
            InputError: when the model was opened without a tokenizer, or its tokenizer gives tokens that the model has
                no row for.
        """
        if self.tokenizer is None:
            raise InputError(Fault("tokenizer", "None", "a tokenizer", "pass tokenizer= to open_model"))
        if not texts:
            return []
        options = {"add_special_tokens": special_tokens, "truncation": False, "verbose": False}
        ids = encoded(self.tokenizer, list(texts), **options)["input_ids"]
        raise_if_any(rowless_faults(self.tokenizer, ids, len(self._table)))
        return [list(found) for found in ids]

    def tokenize_pairs(
        self, prompts: Sequence[str], completions: Sequence[str]
    ) -> tuple[list[list[int]], list[list[int]]]:
        """Token ids of each prompt and of the completion right behind it, see `hf.models.continuations`.

        Raises:
            InputError: as `tokenize` does.
        """
        return continued(self.tokenizer, self.tokenize, prompts, completions)

    def batch(self, sequences: Sequence[Sequence[int]], written: Sequence[int] | None = None) -> TokenBatch:
        """The sequences padded on the right to the longest, on the model's device; see `Backbone.batch`.

        Raises:
            InputError: naming every sequence that is empty, or when there is none.
        """
        empty = [index for index, ids in enumerate(sequences) if not ids]
        faults = [Fault(f"sequence {index}", "no token", "at least one token") for index in empty]
        raise_if_any(faults if sequences else [Fault("sequences", "none", "at least one")], InputError)
        longest = max(map(len, sequences))
        padding = getattr(self.tokenizer, "pad_token_id", None) or 0
        if not 0 <= padding < len(self._table):  # it is masked: any token that has a row does
            padding = 0
        rows = [[*ids, *[padding] * (longest - len(ids))] for ids in sequences]
        lengths = torch.tensor([[len(ids)] for ids in sequences])
        device = self._table.device
        counts = None if written is None else torch.tensor(written, device=device)
        return TokenBatch(torch.tensor(rows, device=device), (torch.arange(longest) < lengths).to(device), counts)

    def hidden(self, batch: TokenBatch, joined: Prepended | None = None) -> Float[Tensor, "batch seq hidden"]:
        """The last hidden states (after the final norm) at the batch's own positions, the joined ones cut off.

        Gradients reach the tensors of `joined`.

        Raises:
            InputError: when prompt and content together are longer than `max_positions`, or `joined` does not fit.
        """
        apart = parts_of(batch, joined, self.turning)
        if not apart:
            states: Tensor = self.run(batch, joined).last_hidden_state
            return states[:, states.shape[1] - batch.input_ids.shape[1] :]
        return put_together([(part.rows, self.hidden(part.batch, part.joined)) for part in apart])

    def front_of(self, call: int, joined: Prepended | None) -> int:
        """How many of the first keys of a call of attention are joined ones."""
        return joined.length if joined else 0

    @cached_property
    def turning(self) -> tuple[str, int] | None:
        """As `promptreach.hf.models.lengths.turning_length` has it."""
        return turning_length(self.model)

    def run(self, batch: TokenBatch, joined: Prepended | None = None, **options: Any) -> Any:
        """The base model's own output for this batch with `joined` in front; `options` go to its forward."""
        inputs = self.inputs(batch, joined) | options
        if self.traits.prefix_by != "door" or joined is None or joined.prefix_keys is None:
            with recomputed(self.layers if self.checkpointing else []):
                return self.body(**inputs)
        assert joined.prefix_values is not None
        with slots_in_front(self.model, joined.prefix_keys, joined.prefix_values):
            return self.body(**inputs)

    def inputs(self, batch: TokenBatch, joined: Prepended | None = None) -> dict[str, Any]:
        """The arguments of the base model's forward for this batch with `joined` in front.

        Token ids, rather than their embeddings, go in wherever nothing is put between them: RoBERTa counts positions
        from the ids, and with a cache from nowhere else.
        """
        joined = joined or Prepended()
        raise_if_any(joined_faults(self, batch, joined), InputError)
        given: dict[str, Any] = {
            "attention_mask": join_mask(batch.mask.long(), joined.length),
            "use_cache": False,
        }
        if joined.prompt is not None:
            content = joined.blanked(self._embedding(batch.input_ids))
            prompt = joined.prompt.to(content).expand(content.shape[0], -1, -1)
            return {**given, "inputs_embeds": torch.cat([prompt, content], dim=1)}
        if joined.prefix_keys is not None and joined.prefix_values is not None:
            if self.traits.prefix_by == "door":  # the slots go in where attention is called, see `run`
                return {**given, "attention_mask": batch.mask.long(), "input_ids": batch.input_ids}
            given["past_key_values"] = self._cache(joined.prefix_keys, joined.prefix_values, len(batch.input_ids))
        return {**given, "input_ids": batch.input_ids}

    def vocabulary_logits(self, hidden: Float[Tensor, "... hidden"]) -> Float[Tensor, "... vocab"]:
        """Next-token logits from last hidden states; causal models only.

        Raises:
            InputError: for an encoder.
        """
        if self.task != "causal":
            raise InputError(Fault("model", f"{self.name}, opened as an encoder", "a causal language model"))
        if not self.traits.plain_head:
            return logits_of(self.model, hidden)
        logits: Tensor = self.model.get_output_embeddings()(hidden)
        return logits

    def cache_of(self, token_ids: Sequence[int]) -> Prefix:
        """The keys and values that these tokens leave at every layer: a prefix that the model has seen before.

        Raises:
            InputError: for no token, or more than `max_positions`.
            UnsupportedModelError: where `lacks` gives a reason against a prefix that starts from text.
        """
        if reason := self.lacks("prefix", "text"):
            raise UnsupportedModelError(f"a prefix from text on {self.family}", ("a random start",), reason)
        if self.row is None and not self.both_ways:
            cache = DynamicCache()  # without a config it keeps every position, also those that a window would drop
            with torch.no_grad():
                self.run(self.batch([token_ids]), past_key_values=cache, use_cache=True)
            return prefix_of(cache)
        pairs = capture(self, self.batch([token_ids]), reduce=lambda layer: (layer.key[0], layer.value[0]))
        keys, values = zip(*pairs, strict=True)
        return Prefix(torch.stack(keys), torch.stack(values))

    def low_rank(
        self, rank: int, alpha: float, seed: int, targets: Sequence[str] = ()
    ) -> AbstractContextManager[AttachedLora]:
        """Attach LoRA to the query and value projections of every layer, see `lora_targets`; it starts at zero.

        GPT-2 has one matrix for queries, keys and values: the update covers the keys. On leaving, nothing is changed.

        Args:
            rank, alpha: columns of each update, which is scaled by alpha / rank.
            seed: for the first factor; the second starts at zero. The global generator is left alone.
            targets: ends of other projections' paths, or ``all-linear``; an InputError names each that is not there.
        """
        found = lora_targets(self.model, targets)
        config = LoraConfig(
            r=rank,
            lora_alpha=alpha,
            target_modules=list(found.names),
            fan_in_fan_out=found.transposed,
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
        not see what came before. `start` is what the gated prefix starts as, its gate at one half; updates and adapters
        start at zero, `seed` is for their other factors. On leaving, the model is bit for bit what it was.

        Raises:
            InputError: when it is attached already.
            UnsupportedModelError: for an architecture without a row.
        """
        row = row_of(self.row, self.family, self.unread, "UniPELT")
        return attached_unipelt(self.model, self.layers, row, start, rank, bottleneck, seed)

    @property
    def peft_task(self) -> TaskType:
        """PEFT's name for what this model is for."""
        return TaskType.CAUSAL_LM if self.task == "causal" else TaskType.FEATURE_EXTRACTION

    def release(self) -> PreTrainedModel:
        """The Hugging Face module itself."""
        return self.model

    def _purpose(self, model: PreTrainedModel, task: ModelTask | None) -> ModelTask:
        found = task_of(model.config, task)
        if found == "seq2seq":
            remedy = "open it with promptreach.hf.open_model"
            raise InputError(Fault("model", "an encoder-decoder", "a model of one stack", remedy))
        return found

    _probe = staticmethod(traits_of)

    @cached_property
    def _lacks_lora(self) -> str:
        targets = lora_targets(self.model)
        if not targets.names:
            return "it has no projection that LoRA could update"
        attached_there = not self.packing or attachable(self.model, targets)
        return "" if attached_there else f"PEFT has no LoRA here for what {self.packing} has packed"

    @property
    def _embedding(self) -> nn.Embedding:
        embedding: nn.Embedding = self.model.get_input_embeddings()
        return embedding

    @property
    def _table(self) -> Tensor:
        """The rows of the input embedding, as they are stored."""
        table: Tensor = self._embedding.weight
        return table

    def _cache(self, keys: Tensor, values: Tensor, batch_size: int) -> DynamicCache:
        pairs = []
        for like, key, value in zip(self.likenesses, keys, values, strict=True):
            pairs.append(tuple(part.to(like).expand(batch_size, -1, -1, -1) for part in (key, value)))
        return DynamicCache(pairs)

    @cached_property
    def likenesses(self) -> list[Tensor]:
        """A weight of each layer, whose type and device its keys and values share; a device map may spread them."""
        own: list[Tensor] = [
            next((weight for weight in layer.parameters() if is_plain(weight)), self._table) for layer in self.layers
        ]
        return own if len(own) == self.num_layers else [self._table] * self.num_layers
