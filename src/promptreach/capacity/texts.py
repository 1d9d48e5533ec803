"""Texts to memorise: passages of natural text, and tokens drawn at random.

Every text stands behind the same opening token, with a prompt and without, so that its first token is predicted, and
counted, like every other one: a prefix has no state of its own that could predict it, and the bare model none at all.
"""

import importlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch

from promptreach.backbone import Backbone
from promptreach.errors import Fault, InputError

Kind = Literal["natural", "random"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class MemoryText:
    """One text to memorise.

    Attributes:
        kind: where it comes from.
        index: its number among those of its kind.
        ids: its tokens, without the opening one.
        source_bits: bits a token that its source is known to have; None for natural text.
    """

    kind: Kind
    index: int
    ids: tuple[int, ...]
    source_bits: float | None = None


def opening_token(backbone: Backbone) -> int:
    """The token that every text stands behind: what the tokenizer opens a text with, else what ends one, else 0."""
    opened = backbone.tokenize([""])[0]
    if opened:
        return opened[-1]
    return backbone.end_token or 0


def natural_texts(
    backbone: Backbone, text: str | None, count: int, longest: int, shortest: int = 2
) -> list[MemoryText]:
    """The beginnings of `count` equal parts of `text`, `shortest` to `longest` tokens each.

    Args:
        text: None takes the Python language reference that is installed with the interpreter.

    Raises:
        InputError: when a part is too short, or there is no reference to take.
    """
    ids = backbone.tokenize([python_reference() if text is None else text], special_tokens=False)[0]
    part = len(ids) // count
    if part < shortest:
        raise InputError(Fault("text", f"{len(ids)} tokens", f"at least {shortest} for each of {count} sequences"))
    return [MemoryText("natural", i, tuple(ids[i * part : i * part + min(part, longest)])) for i in range(count)]


def python_reference() -> str:
    """The topics of Python's own help as one text, in the order of their names.

    Raises:
        InputError: when this interpreter came without them.
    """
    try:
        topics: dict[str, str] = importlib.import_module("pydoc_data.topics").topics
    except ModuleNotFoundError:
        seen = "none, and this Python has no reference to take passages from"
        raise InputError(Fault("text", seen, "a text to take passages from")) from None
    return "\n\n".join(topics[name].strip() for name in sorted(topics))


def random_texts(
    backbone: Backbone, vocabulary: int | None, count: int, longest: int, seed: int
) -> tuple[list[MemoryText], int]:
    """`count` texts of `longest` tokens, each drawn uniformly and independently, and from how many different tokens.

    Args:
        vocabulary: how many tokens to draw from, themselves drawn from all; None takes all.
    """
    generator = torch.Generator().manual_seed(seed)
    size = len(backbone.vocabulary)
    used = torch.randperm(size, generator=generator)[:vocabulary]
    drawn = [used[torch.randint(len(used), (longest,), generator=generator)].tolist() for _ in range(count)]
    return [MemoryText("random", i, tuple(ids), math.log2(len(used))) for i, ids in enumerate(drawn)], len(used)


def inputs_of(texts: Sequence[Sequence[int]], opening: int) -> list[list[int]]:
    """The inputs behind which each text is predicted: the opening token, and the text without its last token."""
    return [[opening, *ids[:-1]] for ids in texts]
