"""Limits on the data: how much of it is used, and the room that a prompt leaves for it."""

from dataclasses import dataclass

import torch

from promptreach.backbone import Backbone
from promptreach.data import Completions, TaskData
from promptreach.errors import Fault, InputError, raise_if_any
from promptreach.training.arguments import MIN_CONTENT, least_faults


@dataclass(frozen=True)
class Limits:
    """Limits on the data: how many examples of each part are used, and how many tokens of an example.

    Raises:
        InputError: naming every limit that is below 2 examples, or below `MIN_CONTENT` tokens.
    """

    train: int = 1024
    validation: int = 256
    held_out: int = 512
    max_length: int = 128

    def __post_init__(self) -> None:
        counts = {"limits.train": self.train, "limits.validation": self.validation, "limits.held_out": self.held_out}
        raise_if_any(least_faults(counts, 2) + least_faults({"limits.max_length": self.max_length}, MIN_CONTENT))


def content_length(backbone: Backbone, limits: Limits, longest_prompt: int) -> int:
    """The most tokens of an example that are read, so that all rows are cut alike whatever stands in front of them."""
    return min(limits.max_length, backbone.max_positions - longest_prompt)


def check_room(backbone: Backbone, data: TaskData, longest_prompt: int) -> None:
    """Refuse what cannot be trained on this model at all.

    Raises:
        InputError: when the prompt leaves no room for content, or completions are asked of an encoder.
    """
    faults = []
    if isinstance(data, Completions) and backbone.task == "encoder":
        faults.append(Fault("data", "prompts with completions", "labelled texts for an encoder", "use a causal model"))
    longest = backbone.max_positions - MIN_CONTENT
    if longest_prompt > longest:
        seen = f"{longest_prompt} virtual tokens in a context of {backbone.max_positions}"
        faults.append(Fault("tokens", seen, f"at most {longest}"))
    raise_if_any(faults, InputError)


def drawn_rows(count: int, most: int, seed: int) -> list[int]:
    """At most `most` of `count` rows, drawn at random, ascending."""
    return _order(count, seed)[:most].sort().values.tolist()


def rows_beyond(count: int, most: int, further: int, seed: int) -> list[int]:
    """At most `further` of the rows that `drawn_rows` leaves, drawn at random, ascending."""
    return _order(count, seed)[most : most + further].sort().values.tolist()


def _order(count: int, seed: int) -> torch.Tensor:
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))
