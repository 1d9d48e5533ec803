"""Models that read with an encoder and write with a decoder, behind the protocol of all others.

The encoder reads the prompt, the decoder writes the completion. A row of a batch holds both, one behind the other, and
says how many tokens at its end are written (`TokenBatch.written`). The state at a position is then the decoder's after
it has read everything up to there, so that next tokens are read off it as they are in a causal model; at positions
further in front, where nothing is written, it is zero.

Virtual tokens stand in front of what the encoder reads, as in Lester et al. 2021, and the decoder looks at them as at
any other position. A prefix stands in front of the decoder's own keys and values, where PEFT has it too. Start token,
shift and the logits' scale or bias are the model's own, asked of its own code.

Reference: Lester et al., EMNLP 2021, "The Power of Scale for Parameter-Efficient Prompt Tuning".
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from peft import TaskType
from torch import Tensor, nn
from transformers import DynamicCache, EncoderDecoderCache, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_TEXT_ENCODING_MAPPING

from promptreach.backbone import ModelTask, Origin, Prepended, TokenBatch
from promptreach.checkpointing import recomputed
from promptreach.errors import Fault, InputError, ModelError, UnsupportedModelError, raise_if_any
from promptreach.hf.models._untrusted import encoded
from promptreach.hf.models.ends import written_logits_of
from promptreach.hf.models.families import Family, task_of
from promptreach.hf.models.model import OpenModel
from promptreach.hf.models.probe import Traits, probe_pair
from promptreach.hf.models.sizes import field
from promptreach.hf.models.soundness import joined_faults, rowless_faults
from promptreach.hf.running.slots import prefix_of
from promptreach.prompt import Prefix, join_mask


class EncoderDecoder(OpenModel):
    """A frozen encoder-decoder with its tokenizer; fulfils `promptreach.backbone.Backbone`.

    `num_layers`, heads and sizes of keys and values are the decoder's, which a prefix is for; `both_ways` says that a
    prompt's states depend on the text beside them.

    Args:
        model: a transformers model of the kind that ``AutoModelForSeq2SeqLM`` opens.
        tokenizer, name, task, origin: as for `OpenModel`; the task can only be ``seq2seq``.

    Raises:
        UnsupportedModelError: when it does not write behind token ids alone.
        InputError: for a model of one stack, or without a language-model head.
        ModelError: when its config names no token, or none that has a row, for the decoder to start from.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: Any = None,
        name: str = "",
        task: ModelTask | None = None,
        origin: Origin | None = None,
    ) -> None:
        super().__init__(model, tokenizer, name, task, origin)
        raise_if_any(_start_faults(model, self.decoder.get_input_embeddings()), ModelError)

    @property
    def encoder(self) -> PreTrainedModel:
        """The stack that reads."""
        found: PreTrainedModel = self.model.get_encoder()
        return found

    @property
    def decoder(self) -> PreTrainedModel:
        """The stack that writes."""
        found: PreTrainedModel = self.model.get_decoder()
        return found

    @property
    def body(self) -> PreTrainedModel:
        """The whole model: there is no one part of it that ends in hidden states."""
        return self.model

    @cached_property
    def layers(self) -> list[nn.Module]:
        """The decoder's layers, first to last."""
        return _layers(self.decoder)

    @property
    def inner_parameters(self) -> list[Tensor]:
        """The parameters of the layers of both stacks."""
        return [weight for layer in (*_layers(self.encoder), *self.layers) for weight in layer.parameters()]

    @cached_property
    def reading(self) -> OpenModel:
        """The encoder alone, which reads labelled texts: a head on its states tells their labels."""
        origin = self.origin and replace(self.origin, options={**self.origin.options, "task": "encoder"})
        alone = OpenModel(encoder_alone(self.model), self.tokenizer, self.name, "encoder", origin)
        alone.checkpointing = self.checkpointing
        return alone

    @property
    def peft_task(self) -> TaskType:
        """PEFT's name for what this model is for."""
        return TaskType.SEQ_2_SEQ_LM

    @cached_property
    def end_token(self) -> int | None:
        """The token that the family puts behind what is written: the end of text, or for mBART the language."""
        if self.tokenizer is None:
            return None
        behind = self._targets([""])[0]
        return behind[-1] if behind else super().end_token

    def tokenize_pairs(
        self, prompts: Sequence[str], completions: Sequence[str]
    ) -> tuple[list[list[int]], list[list[int]]]:
        """Token ids of each prompt and of each completion, each as the tokenizer makes it: with all special tokens, and
        a completion as a target text.

        Raises:
            InputError: as `tokenize` does.
        """
        inputs = self.tokenize(prompts)
        answers = self._targets(completions)
        # A completion without a token is one also where special tokens stand around it.
        return inputs, [ids if text else [] for ids, text in zip(answers, completions, strict=True)]

    def hidden(self, batch: TokenBatch, joined: Prepended | None = None) -> Float[Tensor, "batch seq hidden"]:
        """The decoder's states (after its final norm) from the last position that is read to the end of what is
        written, each at the position that it has read up to; zeros elsewhere.

        Gradients reach the tensors of `joined`.

        Raises:
            InputError: as `OpenModel.hidden` does.
        """
        states: Tensor = self.run(batch, joined).last_hidden_state
        read, written = _counts(batch)
        rows, places = (torch.arange(states.shape[1], device=states.device) <= written[:, None]).nonzero().unbind(1)
        found = states.new_zeros(*batch.input_ids.shape, states.shape[-1])
        found[rows, read[rows] - 1 + places] = states[rows, places]
        return found

    def run(self, batch: TokenBatch, joined: Prepended | None = None, **options: Any) -> Any:
        """The decoder's own output for this batch with `joined` where it belongs; `options` go to its forward."""
        with recomputed([*_layers(self.encoder), *self.layers] if self.checkpointing else []):
            return self._ran(self.inputs(batch, joined), options)

    def _ran(self, inputs: Mapping[str, Any], options: Mapping[str, Any]) -> Any:
        """Both stacks, one after the other."""
        asked = {name: inputs[name] for name in ("input_ids", "inputs_embeds", "attention_mask") if name in inputs}
        read = self.encoder(**asked).last_hidden_state
        return self.decoder(
            **{
                "input_ids": inputs["decoder_input_ids"],
                "past_key_values": inputs.get("past_key_values"),
                "encoder_hidden_states": read,
                "encoder_attention_mask": inputs["attention_mask"],
                "use_cache": False,
                **options,
            }
        )

    def inputs(self, batch: TokenBatch, joined: Prepended | None = None) -> dict[str, Any]:
        """The arguments of the whole model's forward for this batch with `joined` where it belongs."""
        joined = joined or Prepended()
        raise_if_any(joined_faults(self, batch, joined), InputError)
        read, written = _counts(batch)
        mask = _within(read)
        ids = batch.input_ids[:, : mask.shape[1]].masked_fill(~mask, self._padding)
        given: dict[str, Any] = {"decoder_input_ids": self._written(batch, read, written), "use_cache": False}
        if joined.prompt is None:
            given |= {"input_ids": ids, "attention_mask": mask.long()}
        else:
            content = self._embedding(ids)
            prompt = joined.prompt.to(content).expand(len(content), -1, -1)
            in_front = join_mask(mask.long(), joined.length)
            given |= {"inputs_embeds": torch.cat([prompt, content], dim=1), "attention_mask": in_front}
        if joined.prefix_keys is not None and joined.prefix_values is not None:
            own = self._cache(joined.prefix_keys, joined.prefix_values, len(ids))
            given["past_key_values"] = EncoderDecoderCache(own, DynamicCache())
        return given

    def vocabulary_logits(self, hidden: Float[Tensor, "... hidden"]) -> Float[Tensor, "... vocab"]:
        """Next-token logits from the decoder's last hidden states, as the model's own forward makes them."""
        return written_logits_of(self.model, hidden)

    def cache_of(self, token_ids: Sequence[int]) -> Prefix:
        """The keys and values that these tokens leave in the decoder when it writes what the encoder has read.

        Raises:
            InputError, UnsupportedModelError: as `OpenModel.cache_of` does.
        """
        if reason := self.lacks("prefix", "text"):
            raise UnsupportedModelError(f"a prefix from text on {self.family}", ("another method",), reason)
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        with torch.no_grad():
            batch = self.batch([token_ids])
            self.run(batch, input_ids=batch.input_ids, past_key_values=cache, use_cache=True)
        return prefix_of(cache.self_attention_cache)

    def front_of(self, call: int, joined: Prepended | None) -> int:
        """How many of a call's keys are joined ones: a prompt's where the encoder's states are looked at, a prefix's
        where the decoder looks at itself."""
        if joined is None:
            return 0
        return joined.length if (joined.prompt is None) == (self.part_of(call) == "decoder") else 0

    def part_of(self, call: int) -> str:
        """Which attention a call is: the encoder's, the decoder's of its own states, or the one across."""
        behind = call - self.traits.reading_calls
        if behind < 0:
            return "encoder"
        return "cross" if behind % 2 else "decoder"

    def _purpose(self, model: PreTrainedModel, task: ModelTask | None) -> ModelTask:
        return task_of(model.config, task or "seq2seq")

    @staticmethod
    def _probe(module: PreTrainedModel, row: Family | None) -> Traits:
        return probe_pair(module)

    def _written(
        self, batch: TokenBatch, read: Int[Tensor, " batch"], written: Int[Tensor, " batch"]
    ) -> Int[Tensor, "batch decoded"]:
        """What the decoder is given: its start, then all tokens that are written."""
        mask = _within(written)
        places = (read[:, None] + torch.arange(mask.shape[1], device=read.device)).clamp(max=batch.mask.shape[1] - 1)
        answers = batch.input_ids.gather(1, places).masked_fill(~mask, self._padding)
        return torch.cat([self._start(answers), answers], dim=1)

    def _start(self, answers: Int[Tensor, "batch written"]) -> Int[Tensor, "batch 1"]:
        """The token that each row's decoder starts from; mBART starts from the language that ends the row."""
        own = getattr(self.model, "prepare_decoder_input_ids_from_labels", None)
        token = field(self.model.config, "decoder_start_token_id")
        if own is None or not answers.shape[1]:
            return answers.new_full((len(answers), 1), token or 0)
        shifted: Tensor = own(labels=answers)
        return shifted[:, :1]

    @cached_property
    def _padding(self) -> int:
        token = field(self.model.config, "pad_token_id")
        return token if isinstance(token, int) and 0 <= token < len(self._table) else 0

    def _targets(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of texts that the model writes."""
        if not texts:
            return []

        def as_targets(batch: list[str], **options: Any) -> Any:
            return self.tokenizer(text_target=batch, **options)

        found = encoded(as_targets, texts, truncation=False, verbose=False)["input_ids"]
        rows = self.decoder.get_input_embeddings().weight
        assert isinstance(rows, Tensor)
        raise_if_any(rowless_faults(self.tokenizer, found, len(rows)))
        return [list(ids) for ids in found]


def encoder_alone(module: PreTrainedModel) -> PreTrainedModel:
    """The stack of an encoder-decoder that reads: in the family's own class for it, or as it is where there is none."""
    stack: PreTrainedModel = module.get_encoder()
    kind = MODEL_FOR_TEXT_ENCODING_MAPPING.get(type(module.config), None)
    if kind is None:
        return stack
    config = copy.deepcopy(module.config)
    config.is_encoder_decoder = False
    with torch.device("meta"):  # nothing of it is kept but the name
        alone: PreTrainedModel = kind(config)
    alone.encoder = stack
    if hasattr(alone, "shared"):
        alone.shared = module.get_input_embeddings()
    return alone


def _start_faults(module: PreTrainedModel, table: nn.Module) -> list[Fault]:
    """The faults of the token that the decoder starts from where nothing is written yet."""
    assert isinstance(table.weight, Tensor)
    token, rows = field(module.config, "decoder_start_token_id"), len(table.weight)
    if isinstance(token, int) and 0 <= token < rows:
        return []
    expected = f"a token that the decoder has a row for, 0 to {rows - 1}"
    remedy = "set it in config.json; of T5 it is pad_token_id"
    return [Fault(f"config of {module.config.model_type}", f"decoder_start_token_id {token}", expected, remedy)]


def _layers(stack: nn.Module) -> list[nn.Module]:
    """The layers of a stack, first to last: the list of modules that holds most of it."""
    lists = [list(part) for part in stack.modules() if isinstance(part, nn.ModuleList)]
    return max(lists, key=lambda layers: sum(weight.numel() for layer in layers for weight in layer.parameters()))


def _counts(batch: TokenBatch) -> tuple[Int[Tensor, " batch"], Int[Tensor, " batch"]]:
    """How many tokens of each row are read, and how many written."""
    total = batch.mask.sum(1)
    written = torch.zeros_like(total) if batch.written is None else batch.written.to(total)
    return total - written, written


def _within(counts: Int[Tensor, " batch"]) -> Bool[Tensor, "batch most"]:
    return torch.arange(int(counts.max()), device=counts.device) < counts[:, None]
