"""What the tests of memory share: a small causal model, texts for it, virtual tokens drawn at random."""

import torch
from torch import Tensor

from helpers.models import VOCABULARY, tiny_model
from promptreach.backbone import Prepended
from promptreach.capacity.texts import MemoryText
from promptreach.hf import OpenModel
from promptreach.prompt import SoftPrompt
from promptreach.training.methods.initial import drawn_start

OPENING = 3


def no_step(advance: int = 1, note: str = "") -> None:
    """Progress that nobody watches."""


def random_ids(lengths: list[int], seed: int = 0) -> list[tuple[int, ...]]:
    """Texts of these lengths."""
    generator = torch.Generator().manual_seed(seed)
    return [tuple(torch.randint(VOCABULARY, (length,), generator=generator).tolist()) for length in lengths]


def texts_of(lengths: list[int], seed: int = 0) -> list[MemoryText]:
    """The same as records."""
    return [MemoryText("random", i, ids, 5.0) for i, ids in enumerate(random_ids(lengths, seed))]


def started(model: OpenModel, method: str, tokens: int, texts: int, seed: int = 0) -> tuple[Tensor, ...]:
    """Virtual tokens at their start, ready to take gradients: a prompt's rows, or a prefix's keys and values.

    The text comes first in every tensor.
    """
    generator = torch.Generator().manual_seed(seed)
    starts = [drawn_start(model, method, tokens, generator) for _ in range(texts)]
    parts = [(one.embeddings,) if isinstance(one, SoftPrompt) else (one.keys, one.values) for one in starts]
    return tuple(torch.stack(part).requires_grad_() for part in zip(*parts, strict=True))


def joined(own: tuple[Tensor, ...]) -> Prepended:
    """What those tensors join to a batch of as many texts."""
    if len(own) == 1:
        return Prepended(prompt=own[0])
    keys, values = (part.transpose(0, 1) for part in own)  # layers first
    return Prepended(prefix_keys=keys, prefix_values=values)


__all__ = ["OPENING", "joined", "no_step", "random_ids", "started", "texts_of", "tiny_model"]
