"""Words with tags as token ids: the first token of a word carries its tag."""

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from promptreach.backbone import Backbone
from promptreach.data import TaggedWords
from promptreach.hf.models.texts import tokenized_words

NO_TAG = -100
"""The target at a token that carries no tag."""


@dataclass(frozen=True)
class TagTruth:
    """The tags of all words of one text.

    Attributes:
        tags: as the user wrote them, also those of words behind the cut.
        firsts: the first token of each word; None where the word has none, or stands behind the cut.
        names: of all tags of the task, in the order of the head's outputs.
    """

    tags: tuple[str, ...]
    firsts: tuple[int | None, ...]
    names: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class WordTokens:
    """Words as a head reads them; the attributes are those of `Encoded`."""

    sequences: tuple[tuple[int, ...], ...]
    targets: Int[Tensor, "examples seq"]
    truncated: int
    truths: tuple[TagTruth, ...]


def words_as_tokens(backbone: Backbone, data: TaggedWords, max_length: int) -> WordTokens:
    """The texts of `data`, their ends cut at `max_length` tokens (an encoder's closing token is kept).

    Raises:
        InputError: when the tokenizer cannot say where words begin.
    """
    ids, firsts = tokenized_words(backbone, data.words)
    kept = max_length - (backbone.task == "encoder")
    sequences, truths = [], []
    for row, places, tags in zip(ids, firsts, data.tags, strict=True):
        is_cut = len(row) > max_length
        closing = row[-1:] if kept < max_length else []
        sequences.append(tuple([*row[:kept], *closing] if is_cut else row))
        read = tuple(None if place is None or (is_cut and place >= kept) else place for place in places)
        truths.append(TagTruth(tuple(data.label_names[tag] for tag in tags), read, data.label_names))
    targets = torch.full((len(ids), max(map(len, sequences))), NO_TAG)
    for index, (truth, tags) in enumerate(zip(truths, data.tags, strict=True)):
        for place, tag in zip(truth.firsts, tags, strict=True):
            if place is not None:
                targets[index, place] = tag
    return WordTokens(tuple(sequences), targets, sum(len(row) > max_length for row in ids), tuple(truths))
