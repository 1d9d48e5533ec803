"""The reach of one model: ways of tuning, captures, caches and limits, told before any data exist.

Nothing is trained. What is told follows from the few tokens that were sent through the model when it was opened, and
from one capture of them.
"""

from dataclasses import asdict, dataclass
from typing import Any

import torch

from promptreach.backbone import UNBOUNDED
from promptreach.hf.adapters._lora import lora_targets
from promptreach.hf.models.model import OpenModel
from promptreach.hf.running.capture import REBUILT, LayerCapture, capture

SCHEMA_VERSION = 1
"""The version of `Reach.to_dict`, raised when a field is renamed, removed or changes its meaning."""
_TOKENS = 6


@dataclass(frozen=True)
class Way:
    """One thing that one may want of a model.

    Attributes:
        name: what it is.
        works: whether this model allows it.
        detail: how, or why not.
    """

    name: str
    works: bool
    detail: str


@dataclass(frozen=True)
class Reach:
    """What works on one model.

    Attributes:
        model, family, task: its name, transformers' ``model_type``, and what it was opened as.
        layers, hidden_size, embedding_size: its sizes.
        context: positions that it has, or None where nothing bounds them.
        ways: one entry a method, and for captures, precomputed prompts and limits.
    """

    model: str
    family: str
    task: str
    layers: int
    hidden_size: int
    embedding_size: int
    context: int | None
    ways: tuple[Way, ...]

    def as_text(self) -> str:
        """Plain lines, one a way."""
        context = "unbounded" if self.context is None else f"{self.context:,} positions"
        width = max(len(way.name) for way in self.ways)
        return "\n".join(
            [
                f"{self.model}: {self.family}, opened as {self.task}; {self.layers} layers of {self.hidden_size}, "
                f"embeddings of {self.embedding_size}, context {context}",
                *(f"  {way.name.ljust(width)}  {'yes' if way.works else 'no '}  {way.detail}" for way in self.ways),
            ]
        )

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON types."""
        return {"schema_version": SCHEMA_VERSION, **asdict(self)}


def reach_of_model(model: OpenModel) -> Reach:
    """What works on `model`."""
    targets = lora_targets(model.model)
    shown = ", ".join(targets.names[:4]) + (f" and {len(targets.names) - 4} more" if len(targets.names) > 4 else "")
    by = {"cache": "keys and values as a cache", "door": "keys and values put in front where attention is called"}
    ways = [
        _method(model, "prompt", f"{model.embedding_size} numbers a virtual token"),
        _method(model, "prefix", by.get(model.traits.prefix_by or "", "")),
        _method(model, "lora", f"on {shown}", "LoRA"),
        _method(model, "unipelt", "gated prefix, LoRA and adapters", "UniPELT"),
        _captures(model),
        _precompute(model),
        Way("limits", not model.unread, model.unread or "from the layers' weights"),
    ]
    context = None if model.max_positions == UNBOUNDED else model.max_positions
    sizes = (model.num_layers, model.hidden_size, model.embedding_size)
    return Reach(model.name, model.family, model.task, *sizes, context, tuple(ways))


def _method(model: OpenModel, method: str, how: str, name: str = "") -> Way:
    reason = model.lacks(method)
    return Way(name or method, not reason, reason or how)


def _captures(model: OpenModel) -> Way:
    """Whether attention can be looked at, and whether what is seen explains it."""
    if not model.traits.looked_up:
        return Way("captures", False, "attention is computed where nobody can look on")
    ids = torch.linspace(0, len(model.vocabulary) - 1, _TOKENS).long().tolist()
    batch = model.batch([ids])

    def look(layer: LayerCapture) -> tuple[float, tuple[str, ...]]:
        asked = batch.mask.new_ones(1, layer.query.shape[2])  # of an encoder-decoder not every call has the same
        return layer.rebuilt_error(asked), layer.beside_scores

    found = capture(model, batch, reduce=look)
    parts = sorted({part for _, beside in found for part in beside})
    beside = f", with {' and '.join(parts)}" if parts else ""
    if max(error for error, _ in found) > REBUILT:
        return Way("captures", True, f"queries, keys and values; shares of attention cannot be told from them{beside}")
    return Way("captures", True, f"queries, keys, values and shares of attention{beside}")


def _precompute(model: OpenModel) -> Way:
    """Whether a prompt's keys and values can be computed once for all inputs."""
    name = "precompute"
    if model.both_ways:
        return Way(name, False, "a prompt's states depend on the input that it sees")
    reason = model.lacks("prefix") or model.lacks("prompt")
    if not reason and model.turning is not None:
        return Way(name, True, f"up to {model.turning[1]:,} positions; beyond, {model.turning[0]} rotates otherwise")
    return Way(name, not reason, reason or "a prompt's keys and values, computed once")
