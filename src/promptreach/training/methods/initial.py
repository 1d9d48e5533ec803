"""Starts of training: prompts and prefixes that the model has seen the like of.

PEFT's defaults draw from a normal distribution that knows nothing of the model; on many models that is several times
farther out than any vocabulary row, and an optimiser's step hardly turns such a vector. Here a prompt starts as rows of
the vocabulary and a prefix as the keys and values that real tokens leave behind.

Either may also start from a trained one that is as long or shorter (`WarmStart`).
"""

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from promptreach.backbone import Backbone
from promptreach.errors import Fault, InputError
from promptreach.prompt import Prefix, SoftPrompt

PROMPT_INITS = ("vocabulary", "text", "random")
PREFIX_INITS = ("text", "random")
OWN = "own text"
"""The start from the text that the user gave."""


@dataclass(frozen=True, eq=False)
class WarmStart:
    """A trained prompt or prefix that a longer one starts from; equal to another when every number is.

    Its rows come first, bit for bit, and the usual start's rows come behind them. So, with no row to add, the start
    computes exactly what the trained one computes. With rows added, what is kept is each row itself (and, in a causal
    model, every state of these positions, since they see nothing behind them), but not the function: content attends
    to the added rows too, and is pushed back by their number.

    Attributes:
        adapter: the trained one.
    """

    adapter: SoftPrompt | Prefix

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> "WarmStart":
        """The start whose `tensors` these are.

        Raises:
            KeyError: when they are neither a prompt's nor a prefix's.
        """
        if "embeddings" in tensors:
            return cls(SoftPrompt(tensors["embeddings"]))
        return cls(Prefix(tensors["keys"], tensors["values"]))

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Its tensors, by the name that training gives them."""
        if isinstance(self.adapter, SoftPrompt):
            return {"embeddings": self.adapter.embeddings}
        return {"keys": self.adapter.keys, "values": self.adapter.values}

    @cached_property
    def digest(self) -> str:
        """A hash of every number in it, with names, types and shapes."""
        digest = hashlib.sha256()
        for name, tensor in self.tensors.items():
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, WarmStart) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def faults(self, method: str, tokens: int) -> list[Fault]:
        """The reasons why a run of that method and length cannot start here, whatever the model."""
        kind = self.adapter.kind
        if kind != method:
            return [Fault("start", f"a {kind} for method {method!r}", "a prompt for 'prompt', a prefix for 'prefix'")]
        if self.adapter.length > tokens:
            return [Fault("start", f"{self.adapter.length} virtual tokens", f"at most the {tokens} to be trained")]
        return []

    def misfits(self, backbone: Backbone) -> list[Fault]:
        """The sizes that show that it was made for another model."""
        if isinstance(self.adapter, SoftPrompt):
            seen: tuple[int, ...] = (self.adapter.hidden_size,)
            expected: tuple[int, ...] = (backbone.embedding_size,)
        else:
            seen = (*self.adapter.keys.shape[:2], self.adapter.keys.shape[3], self.adapter.values.shape[3])
            expected = (backbone.num_layers, backbone.num_kv_heads, backbone.head_dim, backbone.value_dim)
        return [] if seen == expected else [Fault("start", f"sizes {seen}", f"{expected}, those of {backbone.name}")]


def lengthened(
    usual: Float[Tensor, "*layers prompt size"], start: Float[Tensor, "*layers shorter size"]
) -> Float[Tensor, "*layers prompt size"]:
    """`start` with the rows of `usual` behind it that it lacks, in the finer of the two types."""
    rest = usual[..., start.shape[-2] :, :]
    dtype = torch.promote_types(usual.dtype, start.dtype)
    return torch.cat([start.to(usual.device, dtype), rest.to(dtype)], dim=-2)


def initial_prompt(
    backbone: Backbone, length: int, init: str, sequences: Sequence[Sequence[int]], seed: int
) -> SoftPrompt:
    """A prompt of `length` virtual tokens.

    Args:
        backbone: gives the vocabulary rows, as its first layer gets them.
        length: how many virtual tokens.
        init: ``"vocabulary"``: distinct tokens drawn from those that occur in `sequences`; ``"text"``: the first
            tokens of the sequences, one after another, and so `OWN`, whose one sequence is the user's text, repeated
            where it is shorter, as PEFT does; ``"random"``: standard normal entries, PEFT's default, kept
            for comparison.
        sequences: token ids of training examples.
        seed: the same seed gives the same prompt.
    """
    generator = torch.Generator().manual_seed(seed)
    vocabulary = backbone.vocabulary
    if init == "random":
        return SoftPrompt(torch.randn(length, vocabulary.shape[1], generator=generator, dtype=vocabulary.dtype))
    if init in ("text", OWN):
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
    if init in ("text", OWN):
        return backbone.cache_of(_text(sequences, length, generator))
    if init == "random":
        # As PEFT leaves it: an embedding table with standard normal entries.
        sizes = (backbone.head_dim, backbone.value_dim)
        shape = (2, backbone.num_layers, backbone.num_kv_heads, length, max(sizes))
        keys, values = torch.randn(shape, generator=generator)
        return Prefix(keys[..., : sizes[0]], values[..., : sizes[1]])
    raise InputError(Fault("init", repr(init), f"one of {', '.join(PREFIX_INITS)} for a prefix"))


def drawn_start(backbone: Backbone, method: str, length: int, generator: torch.Generator) -> SoftPrompt | Prefix:
    """A start of `length` virtual tokens that no text decides: where learning a text by heart begins.

    A prompt has normal entries with the deviation of the vocabulary's (Kuratov et al. 2025); a prefix is the cache of
    random tokens, which at every layer has the size that the model knows.
    """
    vocabulary = backbone.vocabulary
    if method == "prompt":
        entries = torch.randn(length, vocabulary.shape[1], generator=generator)
        return SoftPrompt(entries * float(vocabulary.float().std()))
    return backbone.cache_of(torch.randint(len(vocabulary), (length,), generator=generator).tolist())


def text_tokens(sequences: Sequence[Sequence[int]], length: int, seed: int) -> list[int]:
    """The tokens whose embeddings `initial_prompt` gives for ``"text"``, with the same arguments."""
    return _text(sequences, length, torch.Generator().manual_seed(seed))


def _text(sequences: Sequence[Sequence[int]], length: int, generator: torch.Generator) -> list[int]:
    """The first `length` tokens of randomly ordered training sequences, repeated if they run out."""
    order = torch.randperm(len(sequences), generator=generator).tolist()
    tokens = itertools.chain.from_iterable(sequences[i] for i in itertools.cycle(order))
    return list(itertools.islice(tokens, length))


def typical_entry(tensor: Float[Tensor, "..."]) -> float:
    """The root mean square entry: the unit in which a learning rate for this tensor makes sense under Adam."""
    return float(tensor.double().square().mean().sqrt())
