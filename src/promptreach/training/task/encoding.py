"""Task data as token sequences, and the batches that training draws from them.

Batches hold sequences of similar length: on short texts padding would otherwise cost as much as the content.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from promptreach.backbone import Backbone, TokenBatch
from promptreach.data import LabelledTexts, TaskData
from promptreach.errors import DataError, Fault, raise_if_any
from promptreach.hf.models.texts import is_opening, tokenized_pairs
from promptreach.training.task.chats import rendered

_SORTED_POOL = 8
"""How many batches are drawn at once and sorted by length before they are cut apart."""
_SHOWN_FAULTS = 20


@dataclass(frozen=True, eq=False)
class Encoded:
    """Examples as token ids.

    Attributes:
        sequences: what the model reads; for completions the prompt with the completion behind it.
        labels: class indices of a classification task, or None.
        answer_lengths: for completions the number of tokens at the end that the model should produce, or None.
        truncated: how many examples lost tokens to `max_length`.
        cut_answers: how many of those lost tokens of their completion.
    """

    sequences: tuple[tuple[int, ...], ...]
    labels: Int[Tensor, " examples"] | None
    answer_lengths: tuple[int, ...] | None
    truncated: int
    cut_answers: int = 0

    def __len__(self) -> int:
        return len(self.sequences)

    def take(self, indices: Sequence[int]) -> "Encoded":
        """The examples at `indices`, in that order; `truncated` and `cut_answers` still count all."""
        lengths = self.answer_lengths
        return Encoded(
            tuple(self.sequences[i] for i in indices),
            None if self.labels is None else self.labels[torch.tensor(indices)],
            None if lengths is None else tuple(lengths[i] for i in indices),
            self.truncated,
            self.cut_answers,
        )

    def batch(self, backbone: Backbone, rows: Sequence[int]) -> TokenBatch:
        """The examples `rows`, padded for `backbone`."""
        written = None if self.answer_lengths is None else [self.answer_lengths[row] for row in rows]
        return backbone.batch([self.sequences[row] for row in rows], written)

    def answers(self, rows: Sequence[int]) -> int:
        """How many answers the examples `rows` ask for: one a label, one a token of a completion."""
        return len(rows) if self.answer_lengths is None else sum(self.answer_lengths[row] for row in rows)

    @property
    def digest(self) -> str:
        """A hash of all that training can see of these examples."""
        labels = None if self.labels is None else self.labels.tolist()
        return hashlib.sha256(repr((self.sequences, labels, self.answer_lengths)).encode()).hexdigest()


def encode(backbone: Backbone, data: TaskData, max_length: int) -> Encoded:
    """`data` as token ids of at most `max_length` tokens each.

    A classified text loses its end (an encoder's closing special token is kept), and so does a prompt that an encoder
    reads for its decoder. Another prompt loses its beginning (the special token that opens a text is kept), since what
    stands next to the completion matters most. A completion that fits beside one token of its prompt is whole, and ends
    with the end token, if the tokenizer has one: stopping is a part of the answer. A longer one loses its end, the end
    token with it, and leaves a quarter of the room to its prompt, as far as that needs it. The tokens of prompt and
    completion decode to the two texts with nothing between them, where the tokenizer can say that. Two texts to a label
    are encoded as the tokenizer encodes pairs, and the longer of the two loses its end. Chats are written by the
    model's template first (`promptreach.training.task.chats`), which says how an answer ends.

    Raises:
        DataError: when an input or a completion has no tokens, naming their rows.
    """
    data = rendered(backbone, data)
    is_labelled = isinstance(data, LabelledTexts)
    lengths: list[int] = []
    if isinstance(data, LabelledTexts) and data.seconds:
        inputs, lengths = tokenized_pairs(backbone, data.texts, data.seconds, max_length)
        answers: list[list[int]] = []
    elif is_labelled:
        inputs, answers = backbone.tokenize(data.inputs), []
    else:
        inputs, answers = backbone.tokenize_pairs(data.inputs, data.answers)
    rows = data.rows or tuple(range(1, len(data) + 1))
    what = "text" if isinstance(data, LabelledTexts) else "prompt"
    faults = [
        Fault(f"{data.source}, row {row}, {what}", "no tokens", "at least one token")
        for row, ids in zip(rows, inputs, strict=True)
        if not ids
    ]
    if isinstance(data, LabelledTexts):
        raise_if_any(faults[:_SHOWN_FAULTS], DataError)
        sequences = tuple(_cut_end(ids, max_length, keep_last=backbone.task == "encoder") for ids in inputs)
        truncated = sum(length > max_length for length in lengths or map(len, inputs))
        return Encoded(sequences, torch.tensor(data.labels), None, truncated)
    answers = _ended(answers, None if data.closed else backbone.end_token)
    faults += [
        Fault(f"{data.source}, row {row}, completion", "no tokens", "at least one token")
        for row, answer in zip(rows, answers, strict=True)
        if not answer
    ]
    raise_if_any(faults[:_SHOWN_FAULTS], DataError)
    # A template may have written the opening token itself.
    opening = _opening(backbone, data.inputs[0], inputs[0]) or int(is_opening(backbone, inputs[0][0]))
    whole = list(zip(inputs, answers, strict=True))
    pairs = [(prompt, _cut_answer(answer, len(prompt), max_length)) for prompt, answer in whole]

    def cut(prompt: Sequence[int], room: int) -> tuple[int, ...]:
        if backbone.task == "seq2seq":  # read by an encoder
            return _cut_end(prompt, room, keep_last=True)
        return _cut_start(prompt, room, opening)

    joined = tuple((*cut(prompt, max_length - len(answer)), *answer) for prompt, answer in pairs)
    truncated = sum(len(prompt) + len(answer) > max_length for prompt, answer in whole)
    cut_answers = sum(len(answer) >= max_length for answer in answers)
    return Encoded(joined, None, tuple(len(answer) for _, answer in pairs), truncated, cut_answers)


def _ended(answers: Sequence[list[int]], end: int | None) -> list[list[int]]:
    """Each completion with the end token behind it; none for a completion that has no token."""
    # A completion may already spell the end token out.
    return [ids if end is None or not ids or ids[-1] == end else [*ids, end] for ids in answers]


def _opening(backbone: Backbone, text: str, ids: Sequence[int]) -> int:
    """The special tokens in front of a text."""
    return len(ids) - len(backbone.tokenize([text], special_tokens=False)[0])


def _cut_end(ids: Sequence[int], max_length: int, keep_last: bool) -> tuple[int, ...]:
    if len(ids) <= max_length:
        return tuple(ids)
    return (*ids[: max_length - 1], ids[-1]) if keep_last else tuple(ids[:max_length])


def _cut_answer(answer: list[int], prompt: int, max_length: int) -> list[int]:
    """The first tokens of a completion that does not fit beside one token of its prompt, which has so many."""
    return answer if len(answer) < max_length else answer[: max_length - min(prompt, max(1, max_length // 4))]


def _cut_start(ids: Sequence[int], max_length: int, opening: int) -> tuple[int, ...]:
    """The last tokens, behind the `opening` special ones where there is room for both."""
    if len(ids) <= max_length:
        return tuple(ids)
    kept = opening if opening < max_length else 0
    return (*ids[:kept], *ids[len(ids) - max_length + kept :])


def training_batches(lengths: Sequence[int], batch_size: int, generator: torch.Generator) -> Iterator[list[int]]:
    """Endless batches of row numbers, each row once an epoch, rows of similar length together."""
    while True:
        order = torch.randperm(len(lengths), generator=generator).tolist()
        batches = []
        for start in range(0, len(order), batch_size * _SORTED_POOL):
            pool = sorted(order[start : start + batch_size * _SORTED_POOL], key=lengths.__getitem__)
            batches += [pool[i : i + batch_size] for i in range(0, len(pool), batch_size)]
        for index in torch.randperm(len(batches), generator=generator).tolist():
            yield batches[index]


def evaluation_batches(lengths: Sequence[int], batch_size: int) -> Iterator[list[int]]:
    """Every row once, longest last, rows of similar length together."""
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]
