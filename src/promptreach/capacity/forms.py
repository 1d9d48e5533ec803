"""The two places where virtual tokens can stand, one set for each text of a batch.

A *prompt* is rows in front of the input embeddings; a *prefix* is keys and values of its own at every layer. All
tensors have the text first, so that what belongs to one text can be cut out and put back.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from promptreach.backbone import Backbone, Joined
from promptreach.training.methods.initial import typical_entry

Tensors = tuple[Tensor, ...]


@dataclass(frozen=True)
class Form:
    """One place for virtual tokens.

    Attributes:
        start: tensors for so many virtual tokens and so many texts.
        rates: for each tensor, the learning rate in units of the one for a prompt.
        joined: what goes into a forward pass over those texts.
        entries: numbers in one virtual token.
    """

    start: Callable[[Backbone, int, int, torch.Generator], Tensors]
    rates: Callable[[Backbone, Tensors], tuple[float, ...]]
    joined: Callable[[Tensors], Joined]
    entries: Callable[[Backbone], int]


def _start_prompt(backbone: Backbone, tokens: int, texts: int, generator: torch.Generator) -> Tensors:
    """Normal entries with the deviation of the vocabulary's, as published."""
    vocabulary = backbone.vocabulary
    drawn = [torch.randn(tokens, vocabulary.shape[1], generator=generator) for _ in range(texts)]
    return (_trainable(torch.stack(drawn) * float(vocabulary.float().std()), vocabulary),)


def _start_prefix(backbone: Backbone, tokens: int, texts: int, generator: torch.Generator) -> Tensors:
    """The keys and values that random tokens leave: at every layer of the size that the model knows."""
    vocabulary = backbone.vocabulary
    drawn = [torch.randint(len(vocabulary), (tokens,), generator=generator).tolist() for _ in range(texts)]
    caches = [backbone.cache_of(ids) for ids in drawn]
    keys, values = torch.stack([cache.keys for cache in caches]), torch.stack([cache.values for cache in caches])
    return _trainable(keys, vocabulary), _trainable(values, vocabulary)


def _trainable(start: Tensor, like: Tensor) -> Tensor:
    """On the model's device, in at least float32: in half precision small steps would round to nothing."""
    return start.detach().to(like.device, torch.promote_types(like.dtype, torch.float32))


def _prefix_rates(backbone: Backbone, start: Tensors) -> tuple[float, ...]:
    """The same share of a typical entry as a prompt's: keys and values are of other sizes than embeddings."""
    unit = typical_entry(backbone.vocabulary)
    return tuple(typical_entry(part) / unit for part in start)


def _joined_prefix(tensors: Tensors) -> Joined:
    keys, values = (part.transpose(0, 1) for part in tensors)  # layers first
    return Joined(prefix_keys=keys, prefix_values=values)


FORMS: dict[str, Form] = {
    "prompt": Form(
        start=_start_prompt,
        rates=lambda backbone, start: (1.0,),
        joined=lambda tensors: Joined(prompt=tensors[0]),
        entries=lambda backbone: backbone.hidden_size,
    ),
    "prefix": Form(
        start=_start_prefix,
        rates=_prefix_rates,
        joined=_joined_prefix,
        entries=lambda backbone: 2 * backbone.num_layers * backbone.num_kv_heads * backbone.head_dim,
    ),
}
"""Every form by the name that `capacity` and the command line use."""


def stacked(states: Sequence[Tensors]) -> Tensors:
    """The tensors of several texts as those of one batch."""
    return tuple(torch.stack(parts) for parts in zip(*states, strict=True))


def cut(tensors: Tensors, text: int) -> Tensors:
    """A detached copy of what belongs to one text."""
    return tuple(part[text].detach().clone() for part in tensors)
