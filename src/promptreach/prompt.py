"""Soft prompts and prefixes, the two things that this library is about, and the low-rank update they compete with.

A `SoftPrompt` stands in front of the input embeddings (prompt tuning). A `Prefix` gives every layer keys and values of
its own (prefix tuning, P-tuning v2). A `LowRankUpdate` changes weights (LoRA). All are unbatched records and nothing
else; joining them to a model is a separate step, because it is the same for every method that makes one.

Notation: m prompt tokens, d hidden size, L content tokens.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from promptreach.certificate import Certificate
from promptreach.errors import Fault, raise_if_any


@dataclass(frozen=True, eq=False)
class SoftPrompt:
    """Virtual tokens in front of the input.

    Attributes:
        embeddings: one row a virtual token, in the space of the model's input embeddings, before any position or
            type embedding is added.
        certificate: what is known of this prompt, when something built it.

    Raises:
        InputError: when the embeddings are not a finite matrix with at least one row.
    """

    kind: ClassVar[Literal["prompt"]] = "prompt"

    embeddings: Float[Tensor, "prompt hidden"]
    certificate: Certificate | None = None

    def __post_init__(self) -> None:
        faults = _faults_of(self.embeddings, "embeddings", 2, "(prompt, hidden)")
        raise_if_any(faults)

    @property
    def length(self) -> int:
        """The number of virtual tokens."""
        return self.embeddings.shape[0]

    @property
    def positions(self) -> int:
        """The number of positions in front of the content, as for every `Adapter`."""
        return self.length

    @property
    def hidden_size(self) -> int:
        return self.embeddings.shape[1]

    def join(self, inputs: Float[Tensor, "batch seq hidden"]) -> Float[Tensor, "batch joined hidden"]:
        """The prompt in front of every sequence of the batch, in the inputs' dtype and on their device."""
        prompt = self.embeddings.to(inputs)
        return torch.cat([prompt.expand(inputs.shape[0], -1, -1), inputs], dim=1)


@dataclass(frozen=True, eq=False)
class Prefix:
    """Keys and values in front of the content's, at every layer.

    Attributes:
        keys: as attention sees them, after any position encoding (rotary keys are stored rotated).
        values: in the keys' order.
        certificate: what is known of this prefix, when something built it.

    Raises:
        InputError: when keys and values are not finite, do not agree in layer, head and slot, or have no slot.
    """

    kind: ClassVar[Literal["prefix"]] = "prefix"

    keys: Float[Tensor, "layer kv_head prompt head_dim"]
    values: Float[Tensor, "layer kv_head prompt value_dim"]
    certificate: Certificate | None = None

    def __post_init__(self) -> None:
        faults = _faults_of(self.keys, "keys", 4, "(layer, kv_head, prompt, head_dim)")
        faults += _faults_of(self.values, "values", 4, "(layer, kv_head, prompt, head_dim)")
        if not faults and self.keys.shape[:3] != self.values.shape[:3]:
            faults.append(
                Fault(
                    "values",
                    f"layer, kv_head, prompt = {tuple(self.values.shape[:3])}",
                    f"those of the keys, {tuple(self.keys.shape[:3])}",
                )
            )
        raise_if_any(faults)

    @property
    def length(self) -> int:
        """The number of slots per layer and key/value head."""
        return self.keys.shape[2]

    @property
    def positions(self) -> int:
        """The number of positions in front of the content, as for every `Adapter`."""
        return self.length

    @property
    def num_layers(self) -> int:
        return self.keys.shape[0]


@dataclass(frozen=True, eq=False)
class LowRankUpdate:
    """A LoRA update apart from its model.

    Attributes:
        rank, alpha: the update is scaled by alpha / rank (unless `options` says otherwise).
        state: its matrices by PEFT's key.
        options: PEFT's fields that change the arithmetic, such as ``use_rslora``.
    """

    kind: ClassVar[Literal["lora"]] = "lora"
    positions: ClassVar[int] = 0

    rank: int
    alpha: float
    state: Mapping[str, Tensor]
    options: Mapping[str, Any] = field(default_factory=dict)


Adapter = SoftPrompt | Prefix | LowRankUpdate
"""What PEFT has a folder for; `kind` is the method that trains it, `positions` how many it puts before the content."""


def join_mask(mask: Shaped[Tensor, "batch seq"], prompt_length: int) -> Shaped[Tensor, "batch joined"]:
    """The attention mask with `prompt_length` visible positions in front."""
    return torch.cat([mask.new_ones(mask.shape[0], prompt_length), mask], dim=1)


def _faults_of(tensor: Tensor, name: str, rank: int, shape: str) -> list[Fault]:
    if tensor.ndim != rank or 0 in tensor.shape:
        return [Fault(name, f"shape {tuple(tensor.shape)}", f"{shape}, nothing empty")]
    if not torch.isfinite(tensor).all():
        count = int((~torch.isfinite(tensor)).sum())
        return [Fault(name, f"{count} entries that are NaN or infinite", "finite numbers")]
    return []
