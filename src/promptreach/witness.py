"""Witnesses of certificates: their size, their form in JSON types, and what is read from one that may be damaged.

The readers take what stands under a name only where it is of the kind and within the bounds that the caller can deal
with: a KeyError says that nothing stands there, an InputError that something else does.
"""

import math
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from promptreach.errors import Fault, InputError


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


def whole(witness: Mapping[str, Any], name: str, least: int = 1, most: int = 2**53) -> int:
    """The whole number under this name, within its bounds."""
    found = witness[name]
    if type(found) is not int or not least <= found <= most:
        raise InputError(Fault(repr(name), repr(found), f"a whole number from {least} to {most}"))
    return found


def number(
    witness: Mapping[str, Any], name: str, least: float | int = -math.inf, most: float | int = math.inf
) -> float | int:
    """The finite number under this name, within its bounds; a whole number stays one."""
    found = witness[name]
    if type(found) not in (int, float) or not math.isfinite(found) or not least <= found <= most:
        raise InputError(Fault(repr(name), repr(found), f"a finite number from {least} to {most}"))
    return found  # type: ignore[no-any-return]


def choice(witness: Mapping[str, Any], name: str, options: Collection[str]) -> str:
    """The text under this name, one of a few."""
    found = witness[name]
    if type(found) is not str or found not in options:
        raise InputError(Fault(repr(name), repr(found), f"one of {', '.join(options)}"))
    return found


def tensor(witness: Mapping[str, Any], name: str, *sizes: int | None, dtype: torch.dtype = torch.float64) -> Tensor:
    """The tensor under this name: of this type and these sizes (None for any but 0), every entry finite."""
    found = witness[name]
    expected = f"a {dtype} tensor of {len(sizes)} axes, nothing empty"
    if not isinstance(found, Tensor):
        raise InputError(Fault(repr(name), type(found).__name__, expected))
    fits = len(sizes) == found.ndim
    fits = fits and all(have > 0 and want in (None, have) for have, want in zip(found.shape, sizes, strict=True))
    if not fits or found.dtype != dtype:
        raise InputError(Fault(repr(name), f"{found.dtype}, sizes {tuple(found.shape)}", expected))
    if not bool(found.isfinite().all()):
        raise InputError(Fault(repr(name), "entries that are not finite", "finite numbers"))
    return found
