"""Hugging Face models and adapters, translated into this library's records: the only room that imports them."""

from promptreach.hf.adapters import attach, load_adapter, load_readout, save_adapter, save_readout
from promptreach.hf.attention_interface import attention_reports, use_attention
from promptreach.hf.cache import PromptCache, load_cache, precompute
from promptreach.hf.capture import LayerCapture, capture, visit
from promptreach.hf.compiled import (
    CompiledModel,
    load_compiled_prompt,
    save_backbone,
    save_compiled_prompt,
    wrap_backbone,
)
from promptreach.hf.exports import save_prompt_embeds
from promptreach.hf.load import open_model
from promptreach.hf.model import OpenModel
from promptreach.hf.rotary import moved
from promptreach.hf.shorten import PrefixQueries, Shortened, sample_queries, shorten, text_loss
from promptreach.hf.states import layer_inputs
from promptreach.hf.weights import final_norm, layer_weights

__all__ = [
    "CompiledModel",
    "LayerCapture",
    "OpenModel",
    "PrefixQueries",
    "PromptCache",
    "Shortened",
    "attach",
    "attention_reports",
    "capture",
    "final_norm",
    "layer_inputs",
    "layer_weights",
    "load_adapter",
    "load_cache",
    "load_compiled_prompt",
    "load_readout",
    "moved",
    "open_model",
    "precompute",
    "sample_queries",
    "save_adapter",
    "save_backbone",
    "save_compiled_prompt",
    "save_prompt_embeds",
    "save_readout",
    "shorten",
    "text_loss",
    "use_attention",
    "visit",
    "wrap_backbone",
]
