"""Tiny random models of every text family that transformers can build: two layers of width 32 wherever a config allows.

Sizes are set by the names that configs give them; `SPECIAL` holds what else a family needs to become small or to be
built at all. Nothing is downloaded.
"""

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
)

VOCABULARY = 96
PAIRS = (
    *("bart", "bigbird_pegasus", "blenderbot", "blenderbot-small", "fsmt", "led", "longt5", "m2m_100", "marian"),
    *("mbart", "mt5", "mvp", "nllb-moe", "pegasus", "pegasus_x", "plbart", "prophetnet", "switch_transformers", "t5"),
    *("t5gemma", "umt5"),
)
"""Encoder-decoders that read text; transformers lists those that read sound along with them."""
MOST_PARAMETERS = 2_000_000
"""A family that stays larger than this is left out: its config hides its sizes."""

_SIZES: Mapping[str, Any] = {
    "vocab_size": VOCABULARY,
    "vocab_size_per_layer_input": VOCABULARY,
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "dim", "embedding_size", "emb_dim", "model_dim"), 32),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads"), 4),
    **dict.fromkeys(("intermediate_size", "hidden_dim", "ffn_dim", "d_inner", "n_inner", "encoder_ffn_dim"), 48),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size", "mamba_d_ssm"), 32),
    **dict.fromkeys(("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "moe_k"), 2),
    **dict.fromkeys(("encoder_layers", "decoder_layers", "num_encoder_layers", "num_decoder_layers"), 2),
    **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 4),
    **dict.fromkeys(("num_encoder_attention_heads", "num_decoder_attention_heads"), 4),
    **dict.fromkeys(("d_ff", "decoder_ffn_dim"), 48),
    **dict.fromkeys(("src_vocab_size", "tgt_vocab_size", "decoder_vocab_size"), VOCABULARY),
    "d_kv": 8,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "global_head_dim": 8,
    **dict.fromkeys(("q_lora_rank", "kv_lora_rank"), 16),
    **dict.fromkeys(("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"), 8),
    **dict.fromkeys(("n_group", "topk_group", "n_groups"), 1),
    **dict.fromkeys(("linear_key_head_dim", "linear_value_head_dim", "hidden_size_per_layer_input"), 8),
    **dict.fromkeys(("linear_num_key_heads", "linear_num_value_heads"), 2),
    "max_position_embeddings": 66,
    "n_positions": 66,
    "rotary_dim": 4,
    "type_vocab_size": 2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "first_k_dense_replace": 1,
    "embedding_dim": 32,
}
_LATENT = {"num_key_value_heads": 4}
_HYBRID = {"layer_types": ["linear_attention", "full_attention"]}
_START = {"decoder_start_token_id": 2}
_STACK = {
    **dict.fromkeys(("hidden_size", "intermediate_size"), 32),
    **{"vocab_size": VOCABULARY, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2},
    **{"head_dim": 8, "max_position_embeddings": 66, "pad_token_id": 0},
}
_MAMBA = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_n_groups": 1, "mamba_d_state": 8}
SPECIAL: Mapping[str, Mapping[str, Any]] = {
    **dict.fromkeys(("axk1", "axk2", "deepseek_v3", "deepseek_v32", "glm4_moe_lite"), _LATENT),
    **dict.fromkeys(("glm_moe_dsa", "longcat_flash", "minicpm3", "youtu"), _LATENT),
    **dict.fromkeys(("qwen3_next", "qwen3_5_text", "qwen3_5_moe_text"), _HYBRID),
    **dict.fromkeys(PAIRS, _START),
    "t5gemma": {"encoder": _STACK, "decoder": _STACK, **_START},
    "bamba": {**_MAMBA, "attn_layer_indices": [1]},
    "granitemoehybrid": {**_MAMBA, "layer_types": ["mamba", "attention"]},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "falcon_h1": {**_MAMBA, "mamba_d_ssm": 64},
    "mamba2": {"num_heads": 8, "head_dim": 8, "n_groups": 1},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "window_size": 4},
    "xmod": {"default_language": "en_XX"},
    "ministral": {"layer_types": None},
    "zaya": {"num_experts_per_tok": 1},
    "deepseek_v2": {**_LATENT, "num_experts_per_tok": 2, "topk_method": "greedy"},
}
"""By family, what its config takes beside the sizes above."""
_UNSET = ("head_dim", "num_key_value_heads", "vocab_size", "pad_token_id", "bos_token_id", "eos_token_id")
"""Sizes that are set also where a config leaves them open."""


def family_names() -> tuple[str, ...]:
    """Every decoder and encoder of text that transformers has a class for, and those that are both."""
    single = dict.fromkeys((*MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, *MODEL_FOR_MASKED_LM_MAPPING_NAMES))
    return (*(name for name in single if name not in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES), *PAIRS)


def small_config(family: str, **overrides: Any) -> PretrainedConfig:
    """The config of a family with every size that it knows set small.

    Raises:
        Exception: whatever a config raises that does not go with these sizes.
    """
    asked = {**_SIZES, **SPECIAL.get(family, {}), **overrides}
    known = _known(AutoConfig.for_model(family), asked)
    special = {name: value for name, value in asked.items() if name in SPECIAL.get(family, {}) or name in overrides}
    return AutoConfig.for_model(family, **{**known, **special})


def _known(config: PretrainedConfig, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the sizes that the config has, as a number or as nothing."""
    found = {}
    for name, value in asked.items():
        try:
            now = getattr(config, name)
        except Exception:  # some raise more than AttributeError
            continue
        fixed = isinstance(getattr(type(config), name, None), property)
        if fixed or (now is None and name not in _UNSET):
            continue
        if isinstance(now, int | None) and not isinstance(now, bool):
            found[name] = value
    return found


def small_module(family: str, *, seed: int = 0, **overrides: Any) -> PreTrainedModel:
    """The module of a family, in float32 and evaluation mode, with weights wide enough for mistakes to show.

    Raises:
        ValueError: when it would have more than `MOST_PARAMETERS`.
        Exception: whatever a class raises that does not go with these sizes.
    """
    loader = AutoModelForCausalLM if family in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES else AutoModel
    if family in MODEL_FOR_MASKED_LM_MAPPING_NAMES and "is_decoder" not in overrides:
        loader = AutoModel
    if family in PAIRS:
        loader = AutoModelForSeq2SeqLM
    config = small_config(family, **overrides)
    with warnings.catch_warnings(), torch.random.fork_rng():
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        with torch.device("meta"):
            size = sum(weight.numel() for weight in loader.from_config(config).parameters())
        if size > MOST_PARAMETERS:
            raise ValueError(f"{family} stays at {size:,} parameters")
        module: PreTrainedModel = loader.from_config(config).float()
        with torch.no_grad():
            for weight in module.parameters():
                weight.add_(0.1 * torch.randn_like(weight))
    return module.eval()
