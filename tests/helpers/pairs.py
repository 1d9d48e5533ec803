"""Tiny random encoder-decoders, with a tokenizer that ends every text: nothing is downloaded."""

import functools
from typing import Any

import torch
from tokenizers import processors
from transformers import AutoConfig, AutoModelForSeq2SeqLM, PreTrainedModel, PreTrainedTokenizerFast

from helpers.models import VOCABULARY, tiny_tokenizer
from promptreach.hf import OpenModel, open_model

_T5 = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_decoder_layers": 3, "num_heads": 4}
_BART = {
    "d_model": 32,
    **{f"{stack}_{name}": size for stack in ("encoder", "decoder") for name, size in (("ffn_dim", 48),)},
    **{"encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4},
    "max_position_embeddings": 64,
}
_T5GEMMA = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
PAIRS: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("t5", "mt5", "umt5"), _T5),
    **dict.fromkeys(("bart", "mbart", "pegasus"), _BART),
    "marian": {**_BART, "decoder_layers": 3, "decoder_vocab_size": VOCABULARY},
    "t5gemma": {"encoder": _T5GEMMA, "decoder": _T5GEMMA},
}
"""By family, what its config takes; decoders of two layers and of three."""
END = 3
"""[SEP], which ends what is read and what is written."""


@functools.cache
def pair_module(family: str) -> PreTrainedModel:
    """The transformers module itself, in float32, with weights wide enough for mistakes to show."""
    tokens = {"vocab_size": VOCABULARY, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": END}
    config = AutoConfig.for_model(family, **PAIRS[family], **tokens, decoder_start_token_id=0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module: PreTrainedModel = AutoModelForSeq2SeqLM.from_config(config).float()
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    return module.eval()


def pair_tokenizer() -> PreTrainedTokenizerFast:
    """One token a word of `helpers.models.WORDS`, with the end token behind every text, as T5 has it."""
    tokenizer = tiny_tokenizer("gpt2")
    ending = processors.TemplateProcessing(single="$A [SEP]", special_tokens=[("[SEP]", END)])
    tokenizer._tokenizer.post_processor = ending
    tokenizer.pad_token, tokenizer.eos_token = "[PAD]", "[SEP]"
    return tokenizer


@functools.cache
def pair_model(family: str) -> OpenModel:
    """One opened model a family for all tests."""
    return open_model(pair_module(family), tokenizer=pair_tokenizer())
