"""Questions with their contexts as token ids: where an answer begins and ends among them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from promptreach.backbone import Backbone
from promptreach.data import ContextSpans, Span
from promptreach.errors import DataError, Fault, raise_if_any
from promptreach.hf.models.texts import Characters, tokenized_contexts

NOWHERE = 0
"""The token that stands for no answer: the first one, which belongs to no context."""
_SHOWN_FAULTS = 20


@dataclass(frozen=True)
class SpanTruth:
    """The answers to one question, and where its context stands.

    Attributes:
        context: its text.
        characters: which of its characters each token stands for; None for tokens of anything else.
        answers: the right texts; none where the context does not answer.
    """

    context: str
    characters: tuple[Characters, ...]
    answers: tuple[str, ...]

    @property
    def readable(self) -> list[int]:
        """The tokens of the context that are read."""
        return [token for token, place in enumerate(self.characters) if place is not None]

    def text(self, first: int, last: int) -> str:
        """The stretch of the context from one token to another, both included; empty for no answer."""
        start, end = self.characters[first], self.characters[last]
        return "" if start is None or end is None else self.context[start[0] : end[1]]


@dataclass(frozen=True, eq=False)
class ContextTokens:
    """Questions and contexts as a head reads them; the attributes are those of `Encoded`."""

    sequences: tuple[tuple[int, ...], ...]
    targets: Int[Tensor, "examples 2"]
    truncated: int
    cut_answers: int
    truths: tuple[SpanTruth, ...]


def contexts_as_tokens(backbone: Backbone, data: ContextSpans, max_length: int) -> ContextTokens:
    """Each question with its context behind it, as the tokenizer encodes pairs; the context loses its end.

    An answer that is cut, in all or a part, counts as no answer where it is trained, and as itself where it is judged.

    Raises:
        InputError: when the tokenizer cannot say which characters a token stands for.
        DataError: naming the rows whose question leaves no token to their context.
    """
    ids, characters = tokenized_contexts(backbone, data.questions, data.contexts)
    rows = data.rows or tuple(range(1, len(data) + 1))
    sequences, truths, targets, faults, cut_answers = [], [], [], [], 0
    for index, (row, places) in enumerate(zip(ids, characters, strict=True)):
        over = max(0, len(row) - max_length)
        context = [token for token, place in enumerate(places) if place is not None]
        if over >= len(context):
            seen = f"a question of {len(row) - len(context):,} tokens in a room of {max_length:,}"
            remedy = "Shorten it, or read more tokens (--max-length)."
            where = f"{data.source}, row {rows[index]}, question"
            faults.append(Fault(where, seen, "room for a token of its context", remedy))
            continue
        dropped = set(context[len(context) - over :])
        sequences.append(tuple(token for place, token in enumerate(row) if place not in dropped))
        kept = tuple(place for token, place in enumerate(places) if token not in dropped)
        truth = SpanTruth(data.contexts[index], kept, tuple(text for _, text in data.spans[index]))
        truths.append(truth)
        target = _tokens_of(truth, data.spans[index])
        cut_answers += bool(truth.answers) and target == (NOWHERE, NOWHERE)
        targets.append(target)
    raise_if_any(faults[:_SHOWN_FAULTS], DataError)
    truncated = sum(len(row) > max_length for row in ids)
    return ContextTokens(tuple(sequences), torch.tensor(targets), truncated, cut_answers, tuple(truths))


def _tokens_of(truth: SpanTruth, spans: Sequence[Span]) -> tuple[int, int]:
    """The first and the last token of the first answer that is read to its end; twice `NOWHERE` where none is."""
    for start, text in spans:
        inside = [
            token
            for token, place in enumerate(truth.characters)
            if place is not None and place[0] < start + len(text) and place[1] > start
        ]
        if inside and (truth.characters[inside[-1]] or (0, 0))[1] >= start + len(text.rstrip()):
            return inside[0], inside[-1]
    return NOWHERE, NOWHERE
