"""Where training starts: prompts and prefixes that the model has seen the like of.

PEFT's defaults draw from a normal distribution that knows nothing of the model; on many models that is several times
farther out than any vocabulary row, and an optimiser's step hardly turns such a vector. Here a prompt starts as rows of
the vocabulary and a prefix as the keys and values that real tokens leave behind.
"""

import itertools
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from promptreach.errors import Fault, InputError
from promptreach.prompt import Prefix, SoftPrompt
from promptreach.tuning.backbone import Backbone

PROMPT_INITS = ("vocabulary", "text", "random")
PREFIX_INITS = ("text", "random")


def initial_prompt(
    backbone: Backbone, length: int, init: str, sequences: Sequence[Sequence[int]], seed: int
) -> SoftPrompt:
    """A prompt of `length` virtual tokens.

    Args:
        backbone: gives the vocabulary rows.
        length: how many virtual tokens.
        init: ``"vocabulary"``: distinct tokens drawn from those that occur in `sequences`; ``"text"``: the first
            tokens of the sequences, one after another; ``"random"``: standard normal entries, PEFT's default, kept
            for comparison.
        sequences: token ids of training examples.
        seed: the same seed gives the same prompt.
    """
    generator = torch.Generator().manual_seed(seed)
    vocabulary = backbone.vocabulary
    if init == "random":
        return SoftPrompt(torch.randn(length, vocabulary.shape[1], generator=generator, dtype=vocabulary.dtype))
    if init == "text":
        return SoftPrompt(vocabulary[_text(sequences, length, generator)].clone())
    if init == "vocabulary":
        used = torch.tensor(sorted(set(itertools.chain.from_iterable(sequences))))
        # Distinct rows while they last: two equal virtual tokens start with one token's worth of freedom.
        rounds = -(-length // len(used))
        order = torch.cat([torch.randperm(len(used), generator=generator) for _ in range(rounds)])[:length]
        return SoftPrompt(vocabulary[used[order]].clone())
    raise InputError(Fault("init", repr(init), f"one of {', '.join(PROMPT_INITS)} for a prompt"))


def initial_prefix(backbone: Backbone, length: int, init: str, sequences: Sequence[Sequence[int]], seed: int) -> Prefix:
    """A prefix of `length` slots at every layer: the cache of real text, or PEFT's random default."""
    generator = torch.Generator().manual_seed(seed)
    if init == "text":
        return backbone.cache_of(_text(sequences, length, generator))
    if init == "random":
        # As PEFT leaves it: an embedding table with standard normal entries.
        shape = (2, backbone.num_layers, backbone.num_kv_heads, length, backbone.head_dim)
        keys, values = torch.randn(shape, generator=generator)
        return Prefix(keys, values)
    raise InputError(Fault("init", repr(init), f"one of {', '.join(PREFIX_INITS)} for a prefix"))


def _text(sequences: Sequence[Sequence[int]], length: int, generator: torch.Generator) -> list[int]:
    """The first `length` tokens of randomly ordered training sequences, repeated if they run out."""
    order = torch.randperm(len(sequences), generator=generator).tolist()
    tokens = itertools.chain.from_iterable(sequences[i] for i in itertools.cycle(order))
    return list(itertools.islice(tokens, length))


def typical_entry(tensor: Float[Tensor, "..."]) -> float:
    """The root mean square entry: the unit in which a learning rate for this tensor makes sense under Adam."""
    return float(tensor.double().square().mean().sqrt())
