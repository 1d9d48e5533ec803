"""The answers of an adapter to texts, as a finding: a label and how sure it is, or a completion."""

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import torch

from promptreach.certificate import Evidence
from promptreach.commands.reading import AdapterReader, read_folder
from promptreach.data import Completions, LabelledTexts, TaggedWords
from promptreach.errors import Fault, InputError, raise_if_any
from promptreach.hf import OpenModel
from promptreach.hf.adapters.by_config import attach_any
from promptreach.report.findings import Cell, Finding, Table
from promptreach.report.formatting import counted
from promptreach.rows.options import spaced
from promptreach.training.arguments import MIN_CONTENT
from promptreach.training.task import writing
from promptreach.training.task.encoding import encode
from promptreach.training.task.kinds.tags import tags_given
from promptreach.training.task.task import Task

_HALF = 0.5
_TABLES = (".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet")


def texts_of(given: str) -> list[str]:
    """The texts that a command line means: the lines of a file of that name, blank ones left out, or the text itself.

    Raises:
        InputError: for a table, a file that is not UTF-8 text, and where there is no text at all.
    """
    path = Path(given)
    try:
        is_file = path.is_file()
    except (OSError, ValueError):  # longer than any file's name
        is_file = False
    if is_file and path.suffix.lower() in _TABLES:
        remedy = "write its texts one a line into a .txt file; promptreach evaluate scores tables"
        raise InputError(Fault(given, "a table", "a text, or a file with a text a line", remedy))
    try:
        lines = path.read_text(encoding="utf-8").splitlines() if is_file else [given]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(Fault(given, f"cannot be read ({error})", "a UTF-8 text file")) from error
    texts = [line for line in lines if line.strip()]
    raise_if_any(
        [] if texts else [Fault(given if is_file else "text", "no text", "at least one text that is not blank")]
    )
    return texts


def predict_texts(
    model: OpenModel,
    folder: Path,
    texts: Sequence[str],
    *,
    max_length: int = 128,
    max_new_tokens: int = 32,
    options: Sequence[str] = (),
) -> Finding:
    """What an adapter answers: the label of its head with its softmax probability, its labels with the probability of
    each, its number, the tag of each word, or the greedy completion.

    Args:
        model: its base.
        folder: of the adapter, or of a head alone.
        texts: not blank.
        max_length: tokens of a text that are read; a label's text loses its end, a prompt its beginning.
        max_new_tokens: of a completion, which ends earlier at the end token or where the context ends.
        options: texts to choose from; the answer is the likeliest of them, and nothing is written.

    Raises:
        AdapterError: for a folder that cannot be read or was made for another model.
        InputError: for sizes that make no sense, and an encoder's adapter without a head.
    """
    reader = read_folder(folder, model)
    faults = []
    if max_length < MIN_CONTENT:
        faults.append(Fault("max_length", str(max_length), f"at least {MIN_CONTENT}"))
    if max_new_tokens < 1:
        faults.append(Fault("max_new_tokens", str(max_new_tokens), "at least 1"))
    if not reader.classifies and model.task != "causal":
        remedy = "promptreach audit MODEL DATA --adapter DIR fits a head to your rows"
        faults.append(Fault(str(folder), "an encoder's adapter without a head", "a head beside it or in it", remedy))
    if options and reader.classifies:
        remedy = "leave them out: it answers with its own labels"
        faults.append(Fault("options", f"for a head of {len(reader.labels) or 'some'} labels", "none", remedy))
    if options and (len(options) < 2 or len(set(options)) < len(options)):
        faults.append(Fault("options", ", ".join(options), "two or more, each once"))
    if reader.pairs or reader.kind == "span":
        remedy = "put them into a table, and call promptreach evaluate"
        faults.append(Fault(str(folder), "a head for two texts a row", "a head for one text", remedy))
    raise_if_any(faults)
    length = min(max_length, model.max_positions - (reader.adapter.positions if reader.adapter else 0))
    if options:
        records, cut = _chosen(reader, texts, length, options)
    elif reader.classifies:
        records, cut = _answered(reader, texts, length)
    else:
        records, cut = _completed(reader, texts, length, max_new_tokens)
    head = {"labels": "label", "number": "number"}.get(reader.kind, "answer")
    answered = "option" if options else head if reader.classifies else "completion"
    return Finding(
        check="predict",
        title="Answers of an adapter",
        evidence=Evidence.MEASURED,
        sample=f"{counted(len(texts), 'text')}, {cut:,} of them cut at {length:,} tokens, on {model.name}",
        summary=f"{counted(len(texts), answered)} from {folder}.",
        values={"answers": records},
        blocks=[Table.of("Answers", records)],
    )


def _answered(reader: AdapterReader, texts: Sequence[str], length: int) -> tuple[list[dict[str, Cell]], int]:
    data = LabelledTexts(tuple(texts), (0,) * len(texts), ("unknown",), "text")
    encoded = encode(reader.model, data, length)
    if reader.kind == "tags":
        return _tagged(reader, texts, length)
    outputs = reader.outputs(encoded.sequences).double()
    if reader.kind == "number":
        numbers = outputs[:, 0] * reader.scale[1] + reader.scale[0]
        return [
            {"text": text, "number": one} for text, one in zip(texts, numbers.tolist(), strict=True)
        ], encoded.truncated
    if reader.kind == "several_labels":
        return [
            {
                "text": text,
                "labels": ", ".join(name for name, one in zip(reader.labels, row, strict=True) if one > _HALF)
                or "none",
                "probabilities": ", ".join(f"{name} {one:.3f}" for name, one in zip(reader.labels, row, strict=True)),
            }
            for text, row in zip(texts, torch.sigmoid(outputs).tolist(), strict=True)
        ], encoded.truncated
    sure, answers = torch.softmax(outputs, dim=1).max(1)
    records: list[dict[str, Cell]] = [
        {
            "text": text,
            "label": reader.labels[answer] if reader.labels else f"output {answer}",
            "probability": probability,
        }
        for text, answer, probability in zip(texts, answers.tolist(), sure.tolist(), strict=True)
    ]
    return records, encoded.truncated


def _tagged(reader: AdapterReader, texts: Sequence[str], length: int) -> tuple[list[dict[str, Cell]], int]:
    """The words of each text, told apart by blanks, with the tag that each is given."""
    words = tuple(tuple(text.split()) for text in texts)
    data = TaggedWords(words, tuple((0,) * len(row) for row in words), reader.labels, "text")
    encoded = encode(reader.model, data, length)
    given = reader.outputs(encoded.sequences).argmax(-1).tolist()
    records: list[dict[str, Cell]] = [
        {"text": text, "tags": " ".join(tags_given(truth, own))}
        for text, truth, own in zip(texts, encoded.truths, given, strict=True)
    ]
    return records, encoded.truncated


def _completed(
    reader: AdapterReader, texts: Sequence[str], length: int, max_new_tokens: int
) -> tuple[list[dict[str, Cell]], int]:
    model = reader.model
    # A stand-in for the answer: prompts are then opened and cut as in training.
    encoded = encode(model, Completions(tuple(texts), ("a",) * len(texts), "text"), length)
    assert encoded.answer_lengths is not None
    ends = zip(encoded.sequences, encoded.answer_lengths, strict=True)
    prompts = [ids[: len(ids) - answer] for ids, answer in ends]
    written = greedy(reader, prompts, max_new_tokens)
    answers = model.tokenizer.batch_decode(written, skip_special_tokens=True)
    records: list[dict[str, Cell]] = [
        {"text": text, "completion": answer, "tokens": len(ids)}
        for text, answer, ids in zip(texts, answers, written, strict=True)
    ]
    return records, encoded.truncated


def _chosen(
    reader: AdapterReader, texts: Sequence[str], length: int, options: Sequence[str]
) -> tuple[list[dict[str, Cell]], int]:
    """The likeliest option behind each text, and its share of the likelihood of all of them."""
    behind = tuple(spaced(text, options) for text in texts)
    rows = Completions(tuple(texts), tuple(own[0] for own in behind), "text", options=behind)
    encoded = encode(reader.model, rows, length)
    task = Task(reader.model, rows, rows, rows, {"rows": encoded}, probes={}, pooling=None)
    with nullcontext() if reader.adapter is None else attach_any(reader.model, reader.adapter) as joined:
        nats = task.option_losses("rows", joined).view(len(texts), len(options))
    share, place = torch.softmax(-nats.double(), dim=1).max(1)
    records: list[dict[str, Cell]] = [
        {"text": text, "option": options[at], "share": worth}
        for text, at, worth in zip(texts, place.tolist(), share.tolist(), strict=True)
    ]
    return records, encoded.truncated


def greedy(reader: AdapterReader, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> list[list[int]]:
    """The likeliest token after each prompt, and after that, until the end token, `max_new_tokens`, or the end
    of the context; see `promptreach.training.task.writing`."""
    end = reader.model.end_token
    assert reader.adapter is not None
    with attach_any(reader.model, reader.adapter) as joined:
        return writing.greedy(reader.model, prompts, max_new_tokens, () if end is None else (end,), joined)
