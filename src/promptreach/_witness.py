"""Witnesses of certificates: their size, and their form in JSON types."""

import math
from collections.abc import Mapping
from typing import Any

import torch


def size_of(value: Any) -> int:
    """Bytes of a witness: of its tensors and texts, and eight for each number."""
    if isinstance(value, torch.Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, Mapping):
        return sum(map(size_of, value.values()))
    if isinstance(value, (list, tuple)):
        return sum(map(size_of, value))
    return len(value) if isinstance(value, str) else 8


def pack(value: Any) -> Any:
    """`value` in JSON types. Tensors and non-finite floats get a tagged form, since JSON has neither.

    Raises:
        TypeError: for what no file can hold.
    """
    if isinstance(value, torch.Tensor):
        kind = str(value.dtype).removeprefix("torch.")
        return {"tensor": kind, "shape": list(value.shape), "data": [pack(x) for x in value.flatten().tolist()]}
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(value)}
    if isinstance(value, Mapping):
        return {"dict": {str(key): pack(item) for key, item in value.items()}}
    if isinstance(value, (list, tuple)):
        return [pack(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"a witness cannot hold a {type(value).__name__}")


def unpack(value: Any) -> Any:
    """What `pack` was given, tuples as lists."""
    if isinstance(value, list):
        return [unpack(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        data = [unpack(item) for item in value["data"]]
        return torch.tensor(data, dtype=getattr(torch, value["tensor"])).reshape(value["shape"])
    if "float" in value:
        return float(value["float"])
    return {key: unpack(item) for key, item in value["dict"].items()}
