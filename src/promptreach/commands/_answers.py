"""The answers of an adapter, one record a text: what its head tells, the likeliest option, or what it writes."""

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from jaxtyping import Float
from torch import Tensor

from promptreach.commands.reading import AdapterReader
from promptreach.data import Completions, ContextSpans, HeadData, LabelledTexts, TaggedWords
from promptreach.hf import OpenModel
from promptreach.hf.adapters.by_config import attach_any
from promptreach.report.findings import Cell
from promptreach.rows.chats import Turn
from promptreach.rows.options import spaced
from promptreach.training.task.chats import rendered
from promptreach.training.task.encoding import Encoded, encode
from promptreach.training.task.kinds.registry import KINDS
from promptreach.training.task.task import Task

Records = list[dict[str, Cell]]
_STAND_IN = "a"
"""In place of an answer: prompts are then opened and cut as in training."""


def answers_of_head(
    reader: AdapterReader, texts: Sequence[str], seconds: Sequence[str], length: int
) -> tuple[Records, int]:
    """Answers of a head, and how many texts were cut.

    Args:
        reader: with a head.
        texts: of labels or numbers, of words with blanks between them, or questions.
        seconds: the second text of each, or its context; empty for neither.
        length: tokens of a text that are read.
    """
    encoded = encode(reader.model, _asked(reader, texts, seconds), length)
    outputs = reader.outputs(encoded.sequences)
    inputs: Records = [{"text": text} for text in texts]
    if seconds:
        name = "context" if reader.kind == "span" else "pair"
        inputs = [own | {name: second} for own, second in zip(inputs, seconds, strict=True)]
    answers = _told(reader, outputs, encoded)
    return [own | answer for own, answer in zip(inputs, answers, strict=True)], encoded.truncated


def _asked(reader: AdapterReader, texts: Sequence[str], seconds: Sequence[str]) -> HeadData:
    """The texts as rows of the head's kind; their answers are nobody's."""
    if reader.kind == "span":
        return ContextSpans(tuple(texts), tuple(seconds), ((),) * len(texts), "text")
    if reader.kind == "tags":
        words = tuple(tuple(text.split()) for text in texts)
        return TaggedWords(words, tuple((0,) * len(row) for row in words), reader.labels, "text")
    return LabelledTexts(tuple(texts), (0,) * len(texts), ("unknown",), "text", seconds=tuple(seconds))


def _told(reader: AdapterReader, outputs: Float[Tensor, "texts ..."], encoded: Encoded) -> Records:
    """The answers in words, with probabilities of labels."""
    if reader.kind == "labels":
        sure, answers = torch.softmax(outputs.double(), dim=1).max(1)
        names = reader.labels or [f"output {output}" for output in range(outputs.shape[1])]
        return [
            {"label": names[answer], "probability": one}
            for answer, one in zip(answers.tolist(), sure.tolist(), strict=True)
        ]
    if reader.kind == "number":
        return [{"number": one} for one in (outputs[:, 0].double() * reader.scale[1] + reader.scale[0]).tolist()]
    said = KINDS[reader.kind].said(outputs, encoded, range(len(encoded)), reader.labels, reader.scale)
    if reader.kind == "several_labels":
        shares = torch.sigmoid(outputs.double()).tolist()
        named = [", ".join(f"{name} {one:.3f}" for name, one in zip(reader.labels, row, strict=True)) for row in shares]
        return [{"labels": labels, "probabilities": each} for labels, each in zip(said, named, strict=True)]
    return [{"tags" if reader.kind == "tags" else "answer": text} for text in said]


def asked_in_chats(model: OpenModel, texts: Sequence[str], template: str) -> list[str]:
    """Each text as a user's turn that the chat template writes, up to where an answer begins.

    Raises:
        InputError: when the model has no template and none is given.
        DataError: naming the texts on which the template fails.
    """
    chats = tuple((Turn("user", text), Turn("assistant", _STAND_IN)) for text in texts)
    rows = Completions(tuple(texts), (_STAND_IN,) * len(texts), "text", chats=chats, chat_template=template)
    return list(rendered(model, rows).inputs)


def completed(reader: AdapterReader, texts: Sequence[str], length: int, max_new_tokens: int) -> tuple[Records, int]:
    """Greedy completions with the number of their tokens, and how many prompts were cut."""
    model = reader.model
    encoded = encode(model, Completions(tuple(texts), (_STAND_IN,) * len(texts), "text"), length)
    written = reader.written(encoded.prompts, max_new_tokens)
    answers = model.tokenizer.batch_decode(written, skip_special_tokens=True)
    return [
        {"text": text, "completion": answer, "tokens": len(ids)}
        for text, answer, ids in zip(texts, answers, written, strict=True)
    ], encoded.truncated


def chosen(reader: AdapterReader, texts: Sequence[str], length: int, options: Sequence[str]) -> tuple[Records, int]:
    """The likeliest option behind each text with its share of the likelihood of all of them, and how many prompts were
    cut."""
    behind = tuple(spaced(text, options) for text in texts)
    rows = Completions(tuple(texts), tuple(own[0] for own in behind), "text", options=behind)
    encoded = encode(reader.model, rows, length)
    task = Task(reader.model, rows, rows, rows, {"rows": encoded}, probes={}, pooling=None)
    with nullcontext() if reader.adapter is None else attach_any(reader.model, reader.adapter) as joined:
        nats = task.option_losses("rows", joined).view(len(texts), len(options))
    share, place = torch.softmax(-nats.double(), dim=1).max(1)
    return [
        {"text": text, "option": options[at], "share": worth}
        for text, at, worth in zip(texts, place.tolist(), share.tolist(), strict=True)
    ], encoded.truncated
