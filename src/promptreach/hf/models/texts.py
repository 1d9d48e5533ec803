"""Texts as a model's own tokenizer writes them: chats through its template, two texts as one sequence, and words whose
first tokens are known."""

from collections.abc import Mapping, Sequence
from typing import Any

from promptreach.backbone import Backbone
from promptreach.errors import Fault, InputError


def tokenizer_of(backbone: Backbone) -> Any:
    """The tokenizer of an opened model; None where the backbone has none."""
    return getattr(backbone, "tokenizer", None)


def chat_template_of(backbone: Backbone) -> str:
    """The model's own chat template, in Jinja; empty where it has none."""
    tokenizer = tokenizer_of(backbone)
    own = getattr(tokenizer, "chat_template", None)
    if isinstance(own, Mapping):
        own = own.get("default")
    return own or ""


def written(backbone: Backbone, turns: Sequence[Mapping[str, str]], template: str, asks: bool) -> str:
    """The turns as the template writes them.

    Args:
        turns: with role and content.
        asks: whether the text ends where an answer of the assistant would begin.

    Raises:
        Exception: whatever the template raises.
    """
    tokenizer = tokenizer_of(backbone)
    text: str = tokenizer.apply_chat_template(
        list(map(dict, turns)), tokenize=False, add_generation_prompt=asks, chat_template=template
    )
    return text


def own_opening(backbone: Backbone) -> str:
    """The special token that the tokenizer puts in front of every text, as text; empty where it puts none."""
    tokenizer = tokenizer_of(backbone)
    opened, bare = tokenizer("a")["input_ids"], tokenizer("a", add_special_tokens=False)["input_ids"]
    if not bare or len(opened) <= len(bare) or opened[0] == bare[0]:
        return ""
    token: str = tokenizer.convert_ids_to_tokens(opened[0])
    return token


def is_opening(backbone: Backbone, token: int) -> bool:
    """Whether a token is the one that opens texts."""
    return token == getattr(tokenizer_of(backbone), "bos_token_id", None)


def tokenized_pairs(
    backbone: Backbone, firsts: Sequence[str], seconds: Sequence[str], max_length: int
) -> tuple[list[list[int]], list[int]]:
    """Token ids of each pair of texts as the tokenizer encodes pairs, and how many tokens each would have uncut.

    A pair of more than `max_length` tokens loses the end of whichever text is the longer.

    Raises:
        InputError: when the backbone has no tokenizer.
    """
    tokenizer = tokenizer_of(backbone)
    if tokenizer is None:
        raise InputError(Fault("tokenizer", "None", "a tokenizer that encodes two texts", "pass tokenizer="))
    whole = tokenizer(list(firsts), list(seconds), truncation=False, verbose=False)["input_ids"]
    ids = [list(row) for row in whole]
    lengths = list(map(len, ids))
    long = [row for row, length in enumerate(lengths) if length > max_length]
    if long:
        cut = tokenizer(
            [firsts[row] for row in long],
            [seconds[row] for row in long],
            truncation="longest_first",
            max_length=max_length,
            verbose=False,
        )["input_ids"]
        for row, shorter in zip(long, cut, strict=True):
            ids[row] = list(shorter)
    return ids, lengths


def tokenized_words(
    backbone: Backbone, texts: Sequence[Sequence[str]]
) -> tuple[list[list[int]], list[tuple[int | None, ...]]]:
    """Token ids of words with blanks between them, and for each word the place of its first token among them.

    A word that shares its first token with the one before it, or has none, has no place.

    Raises:
        InputError: when the tokenizer cannot say which characters a token stands for.
    """
    tokenizer = tokenizer_of(backbone)
    if tokenizer is None or not getattr(tokenizer, "is_fast", False):
        expected = "a fast one, which says which characters a token stands for"
        raise InputError(Fault("tokenizer", "None" if tokenizer is None else "a slow tokenizer", expected))
    found = tokenizer(
        [" ".join(words) for words in texts], return_offsets_mapping=True, truncation=False, verbose=False
    )
    firsts = [_firsts(words, offsets) for words, offsets in zip(texts, found["offset_mapping"], strict=True)]
    return [list(ids) for ids in found["input_ids"]], firsts


def _firsts(words: Sequence[str], offsets: Sequence[tuple[int, int]]) -> tuple[int | None, ...]:
    """The first token of each word, from the characters that each token stands for."""
    places: list[int | None] = []
    token, start = 0, 0
    for word in words:
        while token < len(offsets) and (offsets[token][1] <= start or offsets[token][0] == offsets[token][1]):
            token += 1
        is_own = token < len(offsets) and offsets[token][0] < start + len(word)
        places.append(token if is_own else None)
        token += is_own
        start += len(word) + 1
    return tuple(places)
