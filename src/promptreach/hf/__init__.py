"""Hugging Face models and adapters, translated into this library's records: the only room that imports them."""

import logging

# transformers imports torchao where it is installed, which tells every user of kernels for other machines.
for _name in ("torchao", "torch.utils._pytree"):
    logging.getLogger(_name).setLevel(logging.ERROR)

from promptreach.hf.adapters.folders import attach, load_adapter, load_readout, save_adapter, save_readout
from promptreach.hf.compiled import (
    CompiledModel,
    load_compiled_prompt,
    save_backbone,
    save_compiled_prompt,
    wrap_backbone,
)
from promptreach.hf.models.load import open_model
from promptreach.hf.models.model import OpenModel
from promptreach.hf.models.weights import final_norm, layer_inputs, layer_weights
from promptreach.hf.running.attention_interface import attention_reports, use_attention
from promptreach.hf.running.cache import PromptCache, load_cache, precompute, rerotated
from promptreach.hf.running.capture import LayerCapture, capture, visit
from promptreach.hf.running.exports import save_prompt_embeds
from promptreach.hf.running.monitor import SoftPromptMonitor
from promptreach.hf.running.shorten import PrefixQueries, Shortened, sample_queries, shorten, text_loss

__all__ = [
    "CompiledModel",
    "LayerCapture",
    "OpenModel",
    "PrefixQueries",
    "PromptCache",
    "Shortened",
    "SoftPromptMonitor",
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
    "open_model",
    "precompute",
    "rerotated",
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
