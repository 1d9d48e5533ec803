"""Shapes of tensors against the names of their axes, refused in one way everywhere.

The axes are written as docstrings write them, ``"... heads? q head_dim"``: three dots in front allow any further axes,
and an axis with a question mark may be missing, which counts as size 1. An axis has one size in all tensors of a call:
the first tensor that has it decides.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from promptreach.errors import Fault


def faults(name: str, tensor: Tensor, axes: str, dims: dict[str, int]) -> list[Fault]:
    """Every axis of the tensor that does not fit; none where all do.

    Args:
        name: of the argument.
        axes: the names of its axes; optional ones only in front.
        dims: sizes by axis that are known already; those that this tensor is the first to have are added.
    """
    shape, names = tuple(tensor.shape), axes.removeprefix("...").split()
    least = sum(not axis.endswith("?") for axis in names)
    if len(shape) < least or (len(shape) > len(names) and not axes.startswith("...")):
        layout = ", ".join(axes.replace("?", "").split())
        return [Fault(name, f"shape {shape}", f"({layout}){'' if least == len(names) else f', at least {least} axes'}")]
    sizes = [1] * (len(names) - len(shape)) + list(shape[max(0, len(shape) - len(names)) :])
    found = []
    for axis, size in zip((axis.rstrip("?") for axis in names), sizes, strict=True):
        if dims.setdefault(axis, size) != size:
            found.append(Fault(name, f"{axis} {size} in shape {shape}", f"{axis} {dims[axis]}"))
    return found


def group_faults(name: str, heads: int, kv_heads: int) -> list[Fault]:
    """A fault where query heads cannot share key/value heads evenly."""
    if kv_heads and heads % kv_heads == 0:
        return []
    return [Fault(name, f"{kv_heads} key/value heads", f"a divisor of the {heads} query heads")]


def expands(shape: Sequence[int], wanted: Sequence[int]) -> bool:
    """True if a tensor of `shape` expands to exactly `wanted`."""
    pairs = zip(reversed(shape), reversed(wanted), strict=False)
    return len(shape) <= len(wanted) and all(have in (1, want) for have, want in pairs)


def broadcast_faults(tensors: Mapping[str, Tensor]) -> tuple[tuple[int, ...], list[Fault]]:
    """The common batch axes, those before (heads, positions, dim), and a fault for each tensor whose own do not
    broadcast with all of those before it."""
    joined: tuple[int, ...] = ()
    found = []
    for name, tensor in tensors.items():
        axes = tuple(tensor.shape[:-3])
        try:
            joined = tuple(torch.broadcast_shapes(joined, axes))  # type: ignore[no-untyped-call]
        except RuntimeError:
            found.append(Fault(name, f"batch axes {axes}", f"ones that broadcast with {joined}"))
    return joined, found
