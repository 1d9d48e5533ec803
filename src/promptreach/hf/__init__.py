"""Hugging Face models and adapters, translated into this library's records: the only room that imports them."""

from promptreach.hf.adapters import attach, load_adapter, load_readout, save_adapter
from promptreach.hf.capture import LayerCapture, capture, visit
from promptreach.hf.load import open_model
from promptreach.hf.model import OpenModel
from promptreach.hf.states import layer_inputs
from promptreach.hf.weights import final_norm, layer_weights

__all__ = [
    "LayerCapture",
    "OpenModel",
    "attach",
    "capture",
    "final_norm",
    "layer_inputs",
    "layer_weights",
    "load_adapter",
    "load_readout",
    "open_model",
    "save_adapter",
    "visit",
]
