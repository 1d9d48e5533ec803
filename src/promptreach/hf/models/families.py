"""The architectures whose weights are understood: one row a family, saying where its parts are.

A row is what limits, certified heads and UniPELT need. Everything else (training, captures, running) works without one,
from the model's own modules. A family gets a row when its attention is plain softmax of scaled scores under a mask: no
soft-cap, no sinks, no position bias inside the softmax.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from transformers import PretrainedConfig
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
)

from promptreach.backbone import ModelTask
from promptreach.errors import Fault, InputError, UnsupportedModelError
from promptreach.hf.models.sizes import text_config
from promptreach.weights import Activation


@dataclass(frozen=True)
class Family:
    """The places of one architecture's parts. Paths are relative to a layer unless said otherwise.

    Attributes:
        name: transformers' ``model_type``.
        encoder: True when every token sees every other (BERT).
        layers: the list of layers, relative to the base model.
        final_norm: the norm after the last layer, relative to the base model, or None.
        attention: the module that computes attention; it knows its scale.
        projections: the query, key and value projections, or one that computes all three.
        output: the projection of the concatenated heads.
        up, down, gate: the feed-forward projections; `gate` is None where there is none.
        attention_norm, feed_forward_norm: the norms; `norm_position` and `norm_kind` say which kind they are.
        query_norm, key_norm: norms over each head's vector, or None.
        activation_field: where the config names the activation.
        transposed: True when weights are stored (in, out).
        rotary: True when queries and keys are rotated by position.
    """

    name: str
    encoder: bool
    layers: str
    final_norm: str | None
    attention: str
    projections: tuple[str, ...]
    output: str
    up: str
    down: str
    gate: str | None
    attention_norm: str
    feed_forward_norm: str
    norm_position: Literal["pre", "post"]
    norm_kind: Literal["layer", "rms"]
    query_norm: str | None = None
    key_norm: str | None = None
    activation_field: str = "hidden_act"
    transposed: bool = False
    rotary: bool = False


_BERT = Family(
    name="bert",
    encoder=True,
    layers="encoder.layer",
    final_norm=None,
    attention="attention.self",
    projections=("attention.self.query", "attention.self.key", "attention.self.value"),
    output="attention.output.dense",
    up="intermediate.dense",
    down="output.dense",
    gate=None,
    attention_norm="attention.output.LayerNorm",
    feed_forward_norm="output.LayerNorm",
    norm_position="post",
    norm_kind="layer",
)

_GPT2 = Family(
    name="gpt2",
    encoder=False,
    layers="h",
    final_norm="ln_f",
    attention="attn",
    projections=("attn.c_attn",),
    output="attn.c_proj",
    up="mlp.c_fc",
    down="mlp.c_proj",
    gate=None,
    attention_norm="ln_1",
    feed_forward_norm="ln_2",
    norm_position="pre",
    norm_kind="layer",
    activation_field="activation_function",
    transposed=True,
)

_LLAMA = Family(
    name="llama",
    encoder=False,
    layers="layers",
    final_norm="norm",
    attention="self_attn",
    projections=("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    output="self_attn.o_proj",
    up="mlp.up_proj",
    down="mlp.down_proj",
    gate="mlp.gate_proj",
    attention_norm="input_layernorm",
    feed_forward_norm="post_attention_layernorm",
    norm_position="pre",
    norm_kind="rms",
    rotary=True,
)

FAMILIES: Mapping[str, Family] = {
    row.name: row
    for row in (
        _BERT,
        replace(_BERT, name="roberta"),
        _GPT2,
        _LLAMA,
        replace(_LLAMA, name="qwen2"),
        replace(_LLAMA, name="qwen3", query_norm="self_attn.q_norm", key_norm="self_attn.k_norm"),
        replace(_LLAMA, name="mistral"),
    )
}

ACTIVATIONS: Mapping[str, Activation] = {
    "relu": "relu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "silu": "silu",
    "swish": "silu",
}
"""transformers' names of activations, and ours."""


def family_of(config: PretrainedConfig) -> Family | None:
    """The row for this config; None where its weights are not understood.

    That is so for an architecture without a row, and for the variants of one that has a row whose attention is another:
    decoders made of BERT, cross-attention, decoders made to look both ways.

    Raises:
        UnsupportedModelError: for relative positions, which transformers took out of these architectures.
    """
    row = FAMILIES.get(config.model_type)
    if row is None:
        return None
    if getattr(config, "position_embedding_type", None) not in (None, "absolute"):
        found = f"{row.name} with position_embedding_type other than 'absolute'"
        reason = "transformers has no such positions any more, and would leave them away without a word."
        raise UnsupportedModelError(found, tuple(FAMILIES), reason)
    another = (
        row.encoder and getattr(config, "is_decoder", False),
        not row.encoder and not getattr(config, "is_causal", True),
        getattr(config, "add_cross_attention", False),
    )
    return None if any(another) else row


def row_of(row: Family | None, name: str, unread: str, what: str) -> Family:
    """`row`, where `what` cannot do without one.

    Args:
        row, name: the architecture's.
        unread: why the weights cannot be taken apart, as `OpenModel.unread` has it.
        what: needs them.

    Raises:
        UnsupportedModelError: when there is none, or weights are packed.
    """
    if unread or row is None:
        reason = f"{what} needs its weights, and {unread}. Training, captures and prefixes do not."
        raise UnsupportedModelError(name, tuple(FAMILIES), reason)
    return row


def task_of(config: PretrainedConfig, wanted: ModelTask | None = None) -> ModelTask:
    """The purpose of the checkpoint, unless the caller says: ``causal`` when it can predict the next token.

    A decoder saved without its language-model head (an embedding model, a classifier) is read as an encoder of texts.
    ``causal`` asks for next tokens, which an encoder-decoder gives as ``seq2seq``.

    Raises:
        UnsupportedModelError: for an encoder-decoder that reads more than text.
        InputError: when ``causal`` is wanted of an encoder, or ``seq2seq`` of a model of one stack.
    """
    if config.is_encoder_decoder:
        if config.model_type not in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES:
            reason = "It may read images or sound rather than text."
            raise UnsupportedModelError(f"{config.model_type}, an encoder-decoder", ("T5, BART and the like",), reason)
        return "encoder" if wanted == "encoder" else "seq2seq"
    if wanted == "seq2seq":
        expected = "'causal' or 'encoder': it has no decoder behind an encoder"
        raise InputError(Fault("task", f"'seq2seq' for {config.model_type}", expected))
    encoder = _is_encoder(config)
    if wanted == "causal" and encoder:
        raise InputError(Fault("task", f"'causal' for {config.model_type}", "'encoder': every token sees every other"))
    if wanted is not None:
        return wanted
    names = config.architectures or []
    written = any(name.endswith(("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")) for name in names)
    return "encoder" if encoder or (names and not written) else "causal"


def _is_encoder(config: PretrainedConfig) -> bool:
    """Whether no language-model head is to be had for this architecture, or only by making a decoder of it."""
    row = FAMILIES.get(config.model_type)
    if row is not None and row.encoder:
        return not getattr(config, "is_decoder", False)
    kind = text_config(config).model_type  # of a composite, the part that reads text
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return True
    masked = kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    return masked and not getattr(config, "is_decoder", False)
