"""Task data as token sequences, and the batches that training draws from them.

Batches hold sequences of similar length: on short texts padding would otherwise cost as much as the content.
"""

import hashlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from promptreach.backbone import Backbone, TokenBatch
from promptreach.data import (
    Completions,
    ContextSpans,
    HeadData,
    LabelledTexts,
    NumberedTexts,
    SeveralLabels,
    TaggedWords,
    TaskData,
)
from promptreach.errors import DataError, Fault, raise_if_any
from promptreach.hf.models.texts import is_opening, tokenized_pairs, tokenizer_of
from promptreach.training.task.chats import rendered
from promptreach.training.task.contexts import contexts_as_tokens
from promptreach.training.task.options import Options
from promptreach.training.task.words import TagTruth, words_as_tokens

SORTED_POOL = 32
"""How many batches are drawn at once and sorted by length before they are cut apart, about: with so many, 2 to 5 % of
the positions of short texts are padding, and with 8 it was 12 %."""
_PADDING = 0.05
"""The share of a batch's positions that may be padding where rows are scored, in batches of at least `_LEAST` rows."""
_LEAST = 8
_SHOWN_FAULTS = 20


@dataclass(frozen=True, eq=False)
class Encoded:
    """Examples as token ids.

    Attributes:
        sequences: what the model reads; for completions the prompt with the completion behind it.
        targets: what a head should answer, None for completions: the index of each example's label; (examples, labels)
            of 0 and 1; its number; (examples, tokens) with the index of a word's tag at its first token and `NO_TAG`
            elsewhere; or (examples, 2), the first and the last token of the answer, twice 0 for none.
        answer_lengths: for completions the number of tokens at the end that the model should produce, or None.
        truncated: how many examples lost tokens to `max_length`.
        cut_answers: how many of those lost tokens of their completion, or all or a part of their answer.
        texts: for completions the true answers as a reader has them, whole and without special tokens; otherwise none.
        options: where an answer is one of several, all of them; otherwise None.
        truths: what a metric needs besides: of words the tags of all, of a question what `SpanTruth` holds; empty
            otherwise.
        weights: how much each example counts; None where all count alike.
    """

    sequences: tuple[tuple[int, ...], ...]
    targets: Tensor | None
    answer_lengths: tuple[int, ...] | None
    truncated: int
    cut_answers: int = 0
    texts: tuple[str, ...] = ()
    options: Options | None = None
    truths: tuple[Any, ...] = ()
    weights: Float[Tensor, " examples"] | None = None

    @property
    def labels(self) -> Int[Tensor, " examples"] | None:
        """The targets of a task of one label a text; None for every other."""
        targets = self.targets
        return None if targets is None or targets.dim() != 1 or targets.is_floating_point() else targets

    def __len__(self) -> int:
        return len(self.sequences)

    def take(self, indices: Sequence[int]) -> "Encoded":
        """The examples at `indices`, in that order; `truncated` and `cut_answers` still count all."""
        lengths, rows = self.answer_lengths, torch.tensor(indices, dtype=torch.long)
        return Encoded(
            tuple(self.sequences[i] for i in indices),
            None if self.targets is None else self.targets[rows],
            None if lengths is None else tuple(lengths[i] for i in indices),
            self.truncated,
            self.cut_answers,
            tuple(self.texts[i] for i in indices) if self.texts else (),
            self.options and self.options.take(indices),
            tuple(self.truths[i] for i in indices) if self.truths else (),
            None if self.weights is None else self.weights[rows],
        )

    def weights_of(self, rows: Sequence[int]) -> Float[Tensor, " rows"] | None:
        """How much the examples `rows` count; None where all count alike."""
        return None if self.weights is None else self.weights[torch.tensor(rows)]

    def batch(self, backbone: Backbone, rows: Sequence[int]) -> TokenBatch:
        """The examples `rows`, padded for `backbone`."""
        written = None if self.answer_lengths is None else [self.answer_lengths[row] for row in rows]
        return backbone.batch([self.sequences[row] for row in rows], written)

    def answers(self, rows: Sequence[int]) -> float:
        """How many answers the examples `rows` ask for, each as much as its example counts: one a text or an option,
        one a word that is read, one a token of a completion."""
        counts = [1] * len(rows)
        if self.truths and isinstance(self.truths[0], TagTruth):
            counts = [sum(place is not None for place in self.truths[row].firsts) for row in rows]
        elif self.answer_lengths is not None and self.options is None:
            counts = [self.answer_lengths[row] for row in rows]
        weights = self.weights_of(rows)
        return float(sum(counts) if weights is None else torch.tensor(counts, dtype=weights.dtype) @ weights)

    @property
    def digest(self) -> str:
        """A hash of all that training can see of these examples."""
        targets = None if self.targets is None else self.targets.tolist()
        seen: tuple[object, ...] = (self.sequences, targets, self.answer_lengths)
        seen += (self.options.digest,) if self.options else ()
        seen += () if self.weights is None else (self.weights.tolist(),)
        seen += (self.truths,) if self.truths else ()
        return hashlib.sha256(repr(seen).encode()).hexdigest()

    @property
    def prompts(self) -> list[tuple[int, ...]]:
        """Of completions what the model reads before it must answer."""
        assert self.answer_lengths is not None
        return [ids[: len(ids) - own] for ids, own in zip(self.sequences, self.answer_lengths, strict=True)]


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
    weights = torch.tensor(data.weights) if data.weights else None
    if not isinstance(data, Completions):
        return replace(_read(backbone, data, max_length), weights=weights)
    inputs, answers = backbone.tokenize_pairs(data.inputs, data.answers)
    rows = data.rows or tuple(range(1, len(data) + 1))
    faults = empty_faults(data, inputs, "prompt")
    if data.options:
        raise_if_any(faults[:_SHOWN_FAULTS], DataError)
        return _with_options(backbone, data, max_length)
    answers = _ended(answers, None if data.closed else backbone.end_token)
    faults += [
        Fault(f"{data.source}, row {row}, completion", "no tokens", "at least one token")
        for row, answer in zip(rows, answers, strict=True)
        if not answer
    ]
    raise_if_any(faults[:_SHOWN_FAULTS], DataError)
    whole = list(zip(inputs, answers, strict=True))
    pairs = [(prompt, _cut_answer(answer, len(prompt), max_length)) for prompt, answer in whole]
    cut = _prompt_cut(backbone, data.inputs[0], inputs[0])
    joined = tuple((*cut(prompt, max_length - len(answer)), *answer) for prompt, answer in pairs)
    truncated = sum(len(prompt) + len(answer) > max_length for prompt, answer in whole)
    cut_answers = sum(len(answer) >= max_length for answer in answers)
    # A template's own ending is no part of the answer to a reader.
    texts = data.answers if not data.closed else tokenizer_of(backbone).batch_decode(answers, skip_special_tokens=True)
    lengths = tuple(len(answer) for _, answer in pairs)
    return Encoded(joined, None, lengths, truncated, cut_answers, tuple(texts), weights=weights)


def _with_options(backbone: Backbone, data: Completions, max_length: int) -> Encoded:
    """Rows with several options, every one of which is read behind the same tokens of its prompt.

    A prompt leaves room for the longest of its options; options longer than three quarters of the room lose their end.
    """
    counts = [len(own) for own in data.options]
    prompts = [prompt for prompt, count in zip(data.prompts, counts, strict=True) for _ in range(count)]
    options = [option for own in data.options for option in own]
    inputs, answers = backbone.tokenize_pairs(prompts, options)
    cut = _prompt_cut(backbone, prompts[0], inputs[0])
    sequences: list[tuple[int, ...]] = []
    lengths, truncated, cut_answers, at = [], 0, 0, 0
    for count in counts:
        own, read = answers[at : at + count], inputs[at]
        longest = max(map(len, own))
        kept = [_cut_answer(answer, len(read), max_length) for answer in own]
        prompt = cut(read, max_length - max(map(len, kept)))
        sequences += [(*prompt, *answer) for answer in kept]
        lengths += [len(answer) for answer in kept]
        truncated += len(read) + longest > max_length
        cut_answers += longest >= max_length
        at += count
    raise_if_any(_alike_faults(data, sequences, lengths, max_length)[:_SHOWN_FAULTS], DataError)
    true = tuple(own.index(answer) for own, answer in zip(data.options, data.completions, strict=True))
    characters = tuple(len(option.strip()) for option in options)
    found = Options(tuple(sequences), tuple(lengths), tuple(counts), true, characters)
    right = [start + place for start, place in zip(found.starts, true, strict=True)]
    return Encoded(
        tuple(sequences[place] for place in right),
        None,
        tuple(lengths[place] for place in right),
        truncated,
        cut_answers,
        data.completions,
        found,
        weights=torch.tensor(data.weights) if data.weights else None,
    )


def _alike_faults(
    data: Completions, sequences: Sequence[tuple[int, ...]], lengths: Sequence[int], max_length: int
) -> list[Fault]:
    """The faults of options without a token, and of two in a row that are the same tokens.

    Args:
        sequences, lengths: of all options, one row's behind another's, and the tokens of each that are its own.
    """
    rows, faults, at = data.rows or tuple(range(1, len(data) + 1)), [], 0
    for row, own in zip(rows, data.options, strict=True):
        where, first = f"{data.source}, row {row}, options", dict[tuple[int, ...], str]()
        for option, ids, length in zip(own, sequences[at:], lengths[at:], strict=False):
            twin = first.setdefault(ids, option)
            if not length:
                faults.append(Fault(where, f"{option[:60]!r}, which has no tokens", "at least one token"))
            elif twin is not option:
                seen = f"{twin[:60]!r} and {option[:60]!r}, which are the same tokens to the model"
                remedy = "Drop or rewrite one of them, or take a model whose tokenizer tells them apart."
                if len(ids) == max_length:
                    remedy = "Where they differ behind the tokens that are read, read more of them (--max-length)."
                faults.append(Fault(where, seen, "options that the model can tell apart", remedy))
        at += len(own)
    return faults


def _prompt_cut(backbone: Backbone, text: str, ids: Sequence[int]) -> Callable[[Sequence[int], int], tuple[int, ...]]:
    """The way in which prompts are cut to a room: what an encoder reads at its end, others at their beginning.

    Args:
        text, ids: any of them, as text and as tokens.
    """
    if backbone.task == "seq2seq":
        return partial(cut_end, keep_last=True)
    # A template may have written the opening token itself.
    opening = _opening(backbone, text, ids) or int(is_opening(backbone, ids[0]))
    return partial(_cut_start, opening=opening)


def _read(backbone: Backbone, data: HeadData, max_length: int) -> Encoded:
    """What a head reads: texts, pairs of them, words, or a context behind its question."""
    if isinstance(data, ContextSpans):
        asked = contexts_as_tokens(backbone, data, max_length)
        cut = asked.truncated, asked.cut_answers
        return Encoded(asked.sequences, asked.targets, None, *cut, truths=asked.truths)
    if isinstance(data, TaggedWords):
        found = words_as_tokens(backbone, data, max_length)
        raise_if_any(empty_faults(data, found.sequences, "words")[:_SHOWN_FAULTS], DataError)
        return Encoded(found.sequences, found.targets, None, found.truncated, truths=found.truths)
    lengths: list[int] = []
    if data.seconds:
        inputs, lengths = tokenized_pairs(backbone, data.texts, data.seconds, max_length)
    else:
        inputs = backbone.tokenize(data.inputs)
    raise_if_any(empty_faults(data, inputs, "text")[:_SHOWN_FAULTS], DataError)
    sequences = tuple(cut_end(ids, max_length, keep_last=backbone.task == "encoder") for ids in inputs)
    truncated = sum(length > max_length for length in lengths or map(len, inputs))
    return Encoded(sequences, _targets(data), None, truncated)


def _targets(data: LabelledTexts | SeveralLabels | NumberedTexts) -> Tensor:
    if isinstance(data, LabelledTexts):
        return torch.tensor(data.labels)
    if isinstance(data, NumberedTexts):
        return torch.tensor(data.numbers, dtype=torch.float64)
    targets = torch.zeros(len(data), len(data.label_names))
    for row, labels in enumerate(data.label_sets):
        targets[row, list(labels)] = 1.0
    return targets


def empty_faults(data: TaskData, inputs: Sequence[Sequence[int]], what: str) -> list[Fault]:
    """The faults of inputs without a token."""
    rows = data.rows or tuple(range(1, len(data) + 1))
    return [
        Fault(f"{data.source}, row {row}, {what}", "no tokens", "at least one token")
        for row, ids in zip(rows, inputs, strict=True)
        if not ids
    ]


def _ended(answers: Sequence[list[int]], end: int | None) -> list[list[int]]:
    """Each completion with the end token behind it; none for a completion that has no token."""
    # A completion may already spell the end token out.
    return [ids if end is None or not ids or ids[-1] == end else [*ids, end] for ids in answers]


def _opening(backbone: Backbone, text: str, ids: Sequence[int]) -> int:
    """The special tokens in front of a text."""
    return len(ids) - len(backbone.tokenize([text], special_tokens=False)[0])


def cut_end(ids: Sequence[int], max_length: int, keep_last: bool) -> tuple[int, ...]:
    """The first tokens, with the last one behind them where it closes a text."""
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
    """Endless batches of row numbers, each row once an epoch, rows of similar length together.

    The batches of an epoch differ by one row at most, so that no row weighs more than another in its step, and rows of
    equal length meet by chance.
    """
    count = len(lengths)
    steps = -(-count // batch_size)
    pools = max(1, round(steps / SORTED_POOL))
    ends = [count * index // steps for index in range(steps + 1)]
    edges = [ends[steps * index // pools] for index in range(pools + 1)]
    while True:
        drawn = torch.randperm(count, generator=generator).tolist()
        order: list[int] = []
        for start, end in itertools.pairwise(edges):
            order += sorted(drawn[start:end], key=lengths.__getitem__)
        for index in torch.randperm(steps, generator=generator).tolist():
            yield order[ends[index] : ends[index + 1]]


def evaluation_batches(lengths: Sequence[int], batch_size: int) -> Iterator[list[int]]:
    """Every row once, longest last, rows of similar length together: a batch ends before `batch_size` rows where a
    longer one would make more than `_PADDING` of its positions padding."""
    batch: list[int] = []
    content = 0
    for row in sorted(range(len(lengths)), key=lengths.__getitem__):
        grown, positions = content + lengths[row], lengths[row] * (len(batch) + 1)
        padded = len(batch) >= _LEAST and positions - grown > _PADDING * positions
        if len(batch) == batch_size or padded:
            yield batch
            batch, grown = [], lengths[row]
        batch.append(row)
        content = grown
    if batch:
        yield batch
