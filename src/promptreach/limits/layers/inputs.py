"""Layers and balls that a bound is asked for: their faults, and layers as a witness holds them."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from promptreach.errors import Fault, raise_if_any
from promptreach.weights import LayerWeights, NormWeights
from promptreach.witness import size_of


def witnessed_layers(packed: Sequence[Mapping[str, Any]]) -> list[LayerWeights]:
    """The layers of a witness, in float64.

    Raises:
        InputError: where they are none that a bound can be had for.
    """
    layers = [LayerWeights.unpacked(layer) for layer in packed]
    raise_if_any(layer_faults(layers))
    return [layer.detached() for layer in layers]


def formed_bytes(witness: Mapping[str, Any]) -> int:
    """Bytes of the layers of a witness and of the square matrices that the second path forms, one a head."""
    queries = [layer["attention"]["query"] for layer in witness.get("layers") or [witness["layer"]]]
    return size_of(witness) + sum(8 * int(query.shape[0]) * int(query.shape[2]) ** 2 for query in queries)


def ball_faults(radius: float | int, tokens: int) -> list[Fault]:
    """Faults of the ball of inputs that a bound is asked for."""
    faults = [] if 0 < radius < math.inf else [Fault("radius", str(radius), "a positive finite number")]
    return faults if tokens >= 1 else [*faults, Fault("tokens", str(tokens), "at least 1")]


def layer_faults(layers: Sequence[LayerWeights]) -> list[Fault]:
    """Faults that keep layers from being bounded: none at all, sizes that do not fit, numbers that are not finite."""
    faults = [] if layers else [Fault("layers", "none", "at least one layer")]
    for index, layer in enumerate(layers):
        where, hidden = f"layers[{index}]", layer.attention.hidden_size
        if layer.attention.output_size != hidden:
            faults.append(Fault(where, f"attention gives {layer.attention.output_size} entries", f"{hidden}"))
        mlp = layer.feed_forward
        if mlp is not None and (mlp.up.shape[1] != hidden or tuple(mlp.down.shape) != (hidden, mlp.up.shape[0])):
            shapes = f"feed-forward shapes {tuple(mlp.up.shape)} and {tuple(mlp.down.shape)}"
            faults.append(Fault(where, shapes, f"(width, {hidden}) and ({hidden}, width)"))
        tensors, norms = _parts(layer)
        if not all(bool(tensor.isfinite().all()) for tensor in tensors):
            faults.append(Fault(where, "weights that are not finite", "finite numbers"))
        if len({tensor.dtype for tensor in tensors}) > 1:
            faults.append(Fault(where, "mixed dtypes", "one dtype", "convert with .to(dtype)"))
        if any(not norm.eps > 0 for norm in norms):
            faults.append(Fault(where, "a norm with eps 0", "eps above 0: without it a norm has no Lipschitz constant"))
    return faults


def _parts(record: Any) -> tuple[list[Tensor], list[NormWeights]]:
    """Every tensor and every norm of a record, at any depth."""
    tensors, norms = [], [record] if isinstance(record, NormWeights) else []
    for value in (getattr(record, item.name) for item in dataclasses.fields(record)):
        if isinstance(value, Tensor):
            tensors.append(value)
        elif dataclasses.is_dataclass(value):
            inner = _parts(value)
            tensors, norms = tensors + inner[0], norms + inner[1]
    return tensors, norms
