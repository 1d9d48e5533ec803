"""The supported architectures: one row a family, saying where its parts are.

Everything else in this room reads the row and asks no further what model it holds. A family is supported when its
attention is plain softmax of scaled scores under a mask: no soft-cap, no sinks, no position bias inside the softmax.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from transformers import PretrainedConfig

from promptreach.errors import Fault, InputError, UnsupportedModelError
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
        positions_after_padding: True when the first token's position is the padding id plus one.
        lora_targets: the modules that LoRA on queries and values adapts, as PEFT matches them.
        options: what to pass when the model is opened.
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
    lora_targets: tuple[str, ...]
    query_norm: str | None = None
    key_norm: str | None = None
    activation_field: str = "hidden_act"
    transposed: bool = False
    rotary: bool = False
    positions_after_padding: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    def max_positions(self, config: PretrainedConfig) -> int:
        """The longest sequence that has a position for every token."""
        skipped = config.pad_token_id + 1 if self.positions_after_padding else 0
        return int(config.max_position_embeddings - skipped)


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
    lora_targets=("query", "value"),
    # Hidden states never pass through the pooler, and many checkpoints lack its weights.
    options={"add_pooling_layer": False},
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
    lora_targets=("c_attn",),
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
    lora_targets=("q_proj", "v_proj"),
    rotary=True,
)

FAMILIES: Mapping[str, Family] = {
    row.name: row
    for row in (
        _BERT,
        replace(_BERT, name="roberta", positions_after_padding=True),
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


def family_of(config: PretrainedConfig) -> Family:
    """The row for this config.

    Raises:
        UnsupportedModelError: for an architecture without a row, and for the variants of a supported one whose
            attention is another: decoders made of BERT, cross-attention, relative positions, decoders made to look
            both ways.
    """
    row = FAMILIES.get(config.model_type)
    if row is None:
        raise UnsupportedModelError(config.model_type, tuple(FAMILIES))
    variants = {
        "is_decoder=True": row.encoder and getattr(config, "is_decoder", False),
        "is_causal=False": not row.encoder and not getattr(config, "is_causal", True),
        "add_cross_attention=True": getattr(config, "add_cross_attention", False),
        "position_embedding_type other than 'absolute'": (
            getattr(config, "position_embedding_type", None) not in (None, "absolute")
        ),
    }
    for variant, found in variants.items():
        if found:
            raise UnsupportedModelError(
                f"{row.name} with {variant}", tuple(FAMILIES), "Its attention is not the one of this architecture."
            )
    return row


def task_of(
    config: PretrainedConfig, family: Family, wanted: Literal["encoder", "causal"] | None = None
) -> Literal["encoder", "causal"]:
    """The purpose of the checkpoint, unless the caller says: ``causal`` when it can predict the next token.

    A decoder saved without its language-model head (an embedding model, a classifier) is read as an encoder of texts.

    Raises:
        InputError: when ``causal`` is wanted of an encoder.
    """
    if wanted == "causal" and family.encoder:
        raise InputError(Fault("task", f"'causal' for {family.name}", "'encoder': every token sees every other"))
    if wanted is not None:
        return wanted
    names = config.architectures or []
    if family.encoder or (names and not any(name.endswith(("ForCausalLM", "LMHeadModel")) for name in names)):
        return "encoder"
    return "causal"
