"""Models and adapters as callers pass them, made into what training needs: opened, read and checked."""

from pathlib import Path
from typing import Any

from promptreach.errors import AdapterError, Fault, InputError, raise_if_any
from promptreach.hf.adapters.folders import load_adapter, misfits
from promptreach.hf.models.load import open_model
from promptreach.hf.models.model import OpenModel
from promptreach.prompt import Adapter, LowRankUpdate, Prefix, SoftPrompt


def as_backbone(model: Any, **options: Any) -> OpenModel:
    """`model` itself if it is an opened one; otherwise what `open_model` makes of it with `options`."""
    return model if isinstance(model, OpenModel) else open_model(model, **options)


def as_adapter(adapter: Any, backbone: OpenModel) -> Adapter:
    """`adapter` itself if it is a record that fits; otherwise the PEFT folder of that name, read for `backbone`.

    Raises:
        InputError: for something that is neither.
        AdapterError: when the folder is damaged, holds an adapter of an unknown type, or was made for another model.
    """
    if isinstance(adapter, SoftPrompt | Prefix | LowRankUpdate):
        raise_if_any(misfits(adapter, backbone, "adapter"), AdapterError)
        return adapter
    if not isinstance(adapter, str | Path):
        expected = "a SoftPrompt, a Prefix, a LowRankUpdate, or the folder of a PEFT adapter"
        raise InputError(Fault("adapter", type(adapter).__name__, expected))
    return load_adapter(adapter, backbone)
