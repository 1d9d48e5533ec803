"""The answers of an adapter to texts, as a finding: whatever its head tells of them, or a completion."""

from collections.abc import Sequence
from pathlib import Path

from promptreach.certificate import Evidence
from promptreach.commands._answers import answers_of_head, asked_in_chats, chosen, completed
from promptreach.commands.reading import AdapterReader, base_note, headless_remedy, read_folder
from promptreach.errors import Fault, InputError, raise_if_any
from promptreach.hf import OpenModel
from promptreach.report.findings import Cell, Finding, Table
from promptreach.report.formatting import counted
from promptreach.training.arguments import MIN_CONTENT

_TABLES = (".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet")
_NOUNS = {"labels": "label", "number": "number"}


def texts_of(given: str, name: str = "text") -> list[str]:
    """The texts that a command line means: the lines of a file of that name, blank ones left out, or the text itself.

    Args:
        given: a text, or the path of a file.
        name: of the argument, for messages.

    Raises:
        InputError: for a table, a file that is not UTF-8 text, and where there is no text at all.
    """
    whole = _file_or_text(given)
    texts = [line for line in whole.splitlines() if line.strip()] if whole is not given else [given]
    seen = [] if any(text.strip() for text in texts) else ["no text"]
    raise_if_any(
        [Fault(given if whole is not given else name, one, "at least one text that is not blank") for one in seen]
    )
    return texts


def seconds_of(given: str, texts: int, name: str) -> list[str]:
    """The second texts that a command line means, one for each of so many texts, or one for all of them.

    A file holds one a line; beside a single text the whole of it is one, line ends included.

    Raises:
        InputError: as `texts_of` does.
    """
    whole = _file_or_text(given)
    return [whole.strip()] if texts == 1 and whole.strip() else texts_of(given, name)


def _file_or_text(given: str) -> str:
    """The text of the file of that name, or the very text that was given where there is no such file."""
    path = Path(given)
    try:
        is_file = path.is_file()
    except (OSError, ValueError):  # longer than any file's name
        is_file = False
    if not is_file:
        return given
    if path.suffix.lower() in _TABLES:
        remedy = "write its texts one a line into a .txt file; promptreach evaluate scores tables"
        raise InputError(Fault(given, "a table", "a text, or a file with a text a line", remedy))
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(Fault(given, f"cannot be read ({error})", "a UTF-8 text file")) from error


def predict_texts(
    model: OpenModel,
    folder: Path,
    texts: Sequence[str],
    *,
    pairs: Sequence[str] = (),
    contexts: Sequence[str] = (),
    max_length: int = 128,
    max_new_tokens: int = 32,
    options: Sequence[str] = (),
    chat: bool = False,
    chat_template: str = "",
) -> Finding:
    """What an adapter answers: the label of its head with its softmax probability, its labels with the probability of
    each, its number, the tag of each word, a stretch of the context, or the greedy completion.

    Args:
        model: its base.
        folder: of the adapter, or of a head alone.
        texts: not blank; questions, where the head looks for answers in a context.
        pairs: the second text of each, for a head that judges two texts; a single one stands for all.
        contexts: of each question; a single one stands for all.
        max_length: tokens of a text that are read; a label's text and a context lose their end, a prompt its beginning.
        max_new_tokens: of a completion, which ends earlier at the end token or where the context ends.
        options: texts to choose from; the answer is the likeliest of them, and nothing is written.
        chat: whether each text is a user's turn, which the chat template writes as it wrote the rows in training.
        chat_template: in Jinja; empty for the model's own.

    Raises:
        AdapterError: for a folder that cannot be read or was made for another model.
        InputError: all at once, for sizes that make no sense, an encoder's adapter without a head, second texts or
            contexts that the head asks for or does not take; and for chats without a template.
    """
    reader = read_folder(folder, model)
    faults = _size_faults(max_length, max_new_tokens) + _head_faults(reader, options, chat=chat or bool(chat_template))
    faults += _second_faults(reader, texts, {"pairs": pairs, "contexts": contexts})
    raise_if_any(faults)
    length = min(max_length, reader.model.max_positions - (reader.adapter.positions if reader.adapter else 0))
    records: list[dict[str, Cell]]
    if reader.classifies:
        seconds = list(pairs or contexts)
        records, cut = answers_of_head(reader, texts, seconds * (len(texts) if len(seconds) == 1 else 1), length)
    else:
        asked = asked_in_chats(reader.model, texts, chat_template) if chat or chat_template else texts
        records, cut = (
            chosen(reader, asked, length, options) if options else completed(reader, asked, length, max_new_tokens)
        )
        records = [record | {"text": text} for text, record in zip(texts, records, strict=True)]
    noun = "option" if options else _NOUNS.get(reader.kind, "answer") if reader.classifies else "completion"
    return Finding(
        check="predict",
        title="Answers of an adapter",
        evidence=Evidence.MEASURED,
        sample=f"{counted(len(texts), 'text')}, {cut:,} of them cut at {length:,} tokens, on {model.name}",
        summary=f"{counted(len(texts), noun)} from {folder}.",
        values={"answers": records},
        blocks=[Table.of("Answers", records), *base_note(folder, reader.other_base, reader.model)],
    )


def _size_faults(max_length: int, max_new_tokens: int) -> list[Fault]:
    faults = []
    if max_length < MIN_CONTENT:
        faults.append(Fault("max_length", str(max_length), f"at least {MIN_CONTENT}"))
    if max_new_tokens < 1:
        faults.append(Fault("max_new_tokens", str(max_new_tokens), "at least 1"))
    return faults


def _head_faults(reader: AdapterReader, options: Sequence[str], *, chat: bool) -> list[Fault]:
    """The faults of what is asked of a folder with a head, or of one without."""
    faults = []
    if not reader.classifies and reader.model.task == "encoder":
        seen = "an encoder's adapter without a head"
        faults.append(Fault(str(reader.folder), seen, "a head beside it or in it", headless_remedy(reader)))
    if options and reader.classifies:
        remedy = "leave them out: it answers with its own labels"
        faults.append(Fault("options", f"for a head of {len(reader.labels) or 'some'} labels", "none", remedy))
    if any(not one.strip() for one in options):
        remedy = "leave the empty one out: it may be a comma too many"
        faults.append(
            Fault("options", f"a blank one in {', '.join(map(repr, options))}", "texts to choose from", remedy)
        )
    if options and (len(options) < 2 or len(set(options)) < len(options)):
        faults.append(Fault("options", ", ".join(options), "two or more, each once"))
    if chat and reader.classifies:
        faults.append(Fault("chat", "for an adapter with a head", "an adapter that writes", "leave it out"))
    return faults


def _second_faults(reader: AdapterReader, texts: Sequence[str], given: dict[str, Sequence[str]]) -> list[Fault]:
    """The faults of second texts and of contexts: one that the head asks for and has not, or the other way round."""
    wanted = "contexts" if reader.kind == "span" else "pairs" if reader.pairs else ""
    option = {"contexts": "--context", "pairs": "--pair"}
    what = {"contexts": "a head for answers in a context", "pairs": "a head for two texts a row"}
    faults = []
    if wanted and not given[wanted]:
        remedy = f"give them as {wanted} ({option[wanted]} TEXT|FILE)"
        faults.append(Fault(str(reader.folder), f"{what[wanted]}, and no {wanted}", "one for each text", remedy))
    for name, seconds in given.items():
        if seconds and name != wanted:
            faults.append(Fault(name, f"{len(seconds):,} of them", f"none: this is not {what[name]}", "leave them out"))
        elif len(seconds) not in (0, 1, len(texts)):
            faults.append(
                Fault(name, f"{len(seconds):,} for {counted(len(texts), 'text')}", "one, or one for each text")
            )
    return faults
