"""What the tests of memory share: a small causal model, texts for it, virtual tokens drawn at random."""

import torch

from helpers.models import VOCABULARY, tiny_model
from promptreach.capacity.forms import FORMS, Tensors
from promptreach.capacity.texts import MemoryText
from promptreach.hf import OpenModel

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


def started(model: OpenModel, method: str, tokens: int, texts: int, seed: int = 0) -> Tensors:
    """Virtual tokens at their start, ready to take gradients."""
    start = FORMS[method].start(model, tokens, texts, torch.Generator().manual_seed(seed))
    return tuple(part.requires_grad_() for part in start)


__all__ = ["OPENING", "no_step", "random_ids", "started", "texts_of", "tiny_model"]
