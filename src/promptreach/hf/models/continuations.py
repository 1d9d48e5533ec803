"""The tokens of a completion right behind its prompt: together they are exactly the two texts, and the prompt's stay.

Tokenized by itself, a completion gets whatever a tokenizer puts in front of a text: one that marks word starts (Llama
2, Mistral) makes " 2" of "2". Tokenized together with its prompt, the last token of the prompt may change, and the
prompt that the model is given later would be another. So the tokens are taken from the joint text where the prompt's
own tokens stand in it unchanged, and from the completion behind a mark otherwise; decoding says whether they are right.
"""

from collections.abc import Callable, Sequence
from typing import Any

_MARKS = ("\n", "|", ":", "=", "a", "0")
"""Texts to put before a completion: tokenizers differ in which of them stay a token of their own."""
_Tokenize = Callable[[Sequence[str], bool], list[list[int]]]


def continued(
    tokenizer: Any, tokenize: _Tokenize, prompts: Sequence[str], completions: Sequence[str]
) -> tuple[list[list[int]], list[list[int]]]:
    """Token ids of each prompt with the special tokens that open a text, and of each completion without any.

    Special tokens that end a text are left away: behind them the model would not go on.

    Guarantees: where one of the ways above gives tokens that decode to the prompt with the completion behind it, these
    are given. Otherwise (a tokenizer of whole words puts a space between any two) the completion's tokens are those of
    the completion alone.

    Args:
        tokenizer: decodes.
        tokenize: texts to ids, with or without special tokens.
        prompts, completions: of equal number.
    """
    if not prompts:
        return [], []
    inputs = _opened(tokenize, prompts)
    joint = _opened(tokenize, [prompt + completion for prompt, completion in zip(prompts, completions, strict=True)])
    answers = tokenize(completions, False)
    found: list[list[int] | None] = [_behind(whole, prompt) for whole, prompt in zip(joint, inputs, strict=True)]
    _keep_exact(tokenizer, inputs, completions, found)
    for mark in _MARKS:
        left = [index for index, ids in enumerate(found) if ids is None]
        if not left:
            break
        (front,) = tokenize([mark], False)
        marked = tokenize([mark + completions[index] for index in left], False)
        tried: list[list[int] | None] = [_behind(ids, front) for ids in marked]
        _keep_exact(tokenizer, [inputs[index] for index in left], [completions[index] for index in left], tried)
        for index, ids in zip(left, tried, strict=True):
            found[index] = ids
    return inputs, [alone if ids is None else ids for ids, alone in zip(found, answers, strict=True)]


def _opened(tokenize: _Tokenize, texts: Sequence[str]) -> list[list[int]]:
    """The texts with the special tokens in front of them, without those behind."""
    whole, bare = tokenize(texts, True), tokenize(texts, False)
    return [_without_end(ids, inner) for ids, inner in zip(whole, bare, strict=True)]


def _without_end(ids: list[int], inner: list[int]) -> list[int]:
    """`ids` up to the end of `inner`, which stands in them somewhere."""
    size = len(inner)
    start = next((at for at in range(len(ids) - size + 1) if ids[at : at + size] == inner), None)
    return ids if start is None or not size else ids[: start + size]


def _behind(ids: list[int], front: list[int]) -> list[int] | None:
    """The rest of `ids` where they begin with `front` and go on; otherwise None."""
    return ids[len(front) :] if len(ids) > len(front) and ids[: len(front)] == front else None


def _keep_exact(
    tokenizer: Any, prompts: Sequence[list[int]], completions: Sequence[str], found: list[list[int] | None]
) -> None:
    """Put None in the place of every answer that does not add exactly its completion to the decoded text."""
    rows = [index for index, ids in enumerate(found) if ids is not None]
    options = {"skip_special_tokens": False, "clean_up_tokenization_spaces": False}
    before = tokenizer.batch_decode([prompts[row] for row in rows], **options) if rows else []
    after = tokenizer.batch_decode([[*prompts[row], *(found[row] or [])] for row in rows], **options) if rows else []
    for row, prompt, whole in zip(rows, before, after, strict=True):
        if whole != prompt + completions[row]:
            found[row] = None
