"""A user's data, read and checked: every fault of a source at once, each with its row and what to do about it.

`read_task` is the front: find the parts, open each source, choose its columns, check every row, check the whole. The
ways from a source to rows stand in `promptreach.rows`.
"""

import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from promptreach.data import Completions, ContextSpans, TaskData
from promptreach.errors import Fault
from promptreach.rows._answers import answers_in, labelled, tagged, tags_in, unseen
from promptreach.rows._checks import SHOWN_FAULTS as SHOWN_FAULTS
from promptreach.rows._checks import ColumnChecks, Faults
from promptreach.rows._files import open_file
from promptreach.rows._labels import LABEL_KINDS, Answer, LabelKind, kind_of_labels
from promptreach.rows._memory import open_memory
from promptreach.rows._sources import UNREAD, Source, name_of, sources_of, word_of
from promptreach.rows._table import Row, Table, place, shorten
from promptreach.rows.chats import Chat, template_of
from promptreach.rows.columns import TaskShape, shape_of
from promptreach.rows.examples import Example, example_of
from promptreach.rows.options import answers_among, spaced, with_options
from promptreach.rows.parts import KNOWN_NAMES

MAX_LETTERS = 2**30
"""The most characters that the rows of one source may have in all; a row counts 64 more for what it takes besides."""


def read_task(
    source: object,
    *,
    text_col: str | None = None,
    label_col: str | None = None,
    prompt_col: str | None = None,
    completion_col: str | None = None,
    pair_col: str | None = None,
    label_kind: str | None = None,
    words_col: str | None = None,
    tags_col: str | None = None,
    question_col: str | None = None,
    context_col: str | None = None,
    answers_col: str | None = None,
    split_col: str | None = None,
    validation: object = None,
    test: object = None,
    chat_template: str | os.PathLike[str] | None = None,
    options_col: str | None = None,
    options: Sequence[str] | Mapping[str, str] | None = None,
) -> TaskData:
    """The task in `source`, every row of it checked: texts with a label, several or a number, or prompts to complete.

    In every row of the result the text (or prompt and completion) is a string of at most 1 MB that is not blank and
    that UTF-8 can encode; there are two different texts and, with labels, two different labels. Nothing is dropped or
    mended silently: columns that play no part stand in `unused_columns`. A column called "weight", or as weights of
    rows are called elsewhere, says how much each row counts.

    Args:
        source: a path to JSON (an object a line, or an array), CSV or TSV, each perhaps with .gz, .bz2 or .xz, or to
            Parquet; a hub id ``owner/name[:config][@revision][#split]``, where no such path exists; a frame of pandas
            or polars, an Arrow table, a `datasets.Dataset`; a list of dicts; a mapping of columns; a pair (texts,
            labels); a dict of such sources by part (train, validation, test), or a `DatasetDict`; or a task record,
            which is taken as it is.
        text_col, label_col: the columns of a classification task; None looks for the usual names
            (`promptreach.rows.columns`).
        pair_col: the column of a second text that is judged together with the first.
        label_kind: what the labels are: ``"one"`` a row, ``"several"`` in a list or with marks between them, or a
            ``"number"`` to be predicted. None takes lists as several, numbers of which some have decimals as numbers,
            and all else as one label a row.
        words_col, tags_col: the columns of words and of their tags, lists of one length or texts split at blanks.
        question_col, context_col, answers_col: the columns of questions, of their contexts and of the answers, which
            are stretches of these: a text, a list of texts, or SQuAD's ``{"text": [...], "answer_start": [...]}``.
        prompt_col, completion_col: the columns of a completion task, of texts or of chat turns.
        split_col: the column that says which part a row belongs to; one called "split" is taken by itself where its
            values are names of parts, and refused where some are and others are not.
        validation, test: sources of these parts; the whole of `source` is the training part then.
        chat_template: the template that writes chats as text, in Jinja, or the path of a file that holds it; None is
            the model's own.
        options_col: the column of the texts that a row's answer is one of; the answer is its text, its letter or its
            place among them.
        options: the texts that every completion is one of; of labels the word for each, as a mapping. The model then
            answers with the likeliest of them.

    Raises:
        DataError: listing the faults of the data, up to `SHOWN_FAULTS` of them and the number of the rest.
        MissingExtraError: for Parquet or a hub id without the package that reads it.
    """
    faults = Faults()
    if isinstance(source, TaskData):
        others = {"split_col": split_col, "validation": validation, "test": test, "chat_template": chat_template}
        given = [name for name, value in others.items() if value is not None]
        expected = "a task record alone, whose attributes say these"
        faults.add(*(Fault(name, "given along with a task record", expected) for name in given))
        faults.raise_if_any(source.source)
        return _chosen_among(source, options, faults)
    if label_kind not in (None, *LABEL_KINDS):
        faults.add(Fault("label_kind", repr(label_kind), f"one of {', '.join(LABEL_KINDS)}"))
    wishes = {"text": text_col, "label": label_col, "pair": pair_col, "split": split_col, "label_kind": label_kind}
    wishes |= {"words": words_col, "tags": tags_col}
    wishes |= {"question": question_col, "context": context_col, "answers": answers_col}
    wishes |= {"prompt": prompt_col, "completion": completion_col, "options": options_col}
    for role in [role for role, name in wishes.items() if name == ""]:
        faults.add(Fault(f"{role}_col", "an empty name", "the name of a column"))
        wishes[role] = None
    template = faults.collect(partial(template_of, chat_template)) or ""
    told: list[str] = []
    readings = []
    for one in sources_of(source, {"validation": validation, "held_out": test}, told, faults):
        reading = faults.collect(partial(_read, one, wishes, told, faults))
        readings += [reading] if reading else []
    if not readings:
        faults.raise_if_any("data")
    whole = _joined(readings, faults)
    _check_whole(whole, faults)
    if template and not whole.chats and not faults.count:
        faults.add(Fault("chat_template", "a template for rows that are no chats", "rows of chats", "Leave it out."))
    wish = next((one for one in LABEL_KINDS if one == label_kind), None)
    kind = kind_of_labels([example.answer for example in whole.examples], wish)
    answers = _labels(whole, kind, faults)
    faults.raise_if_any(whole.name)
    return _chosen_among(
        replace(_task_of(whole, kind, answers, template, told), source=name_of(source)), options, faults
    )


def _chosen_among(data: TaskData, options: Sequence[str] | Mapping[str, str] | None, faults: Faults) -> TaskData:
    """The rows with the options that the caller gave for all of them."""
    found = data if options is None else with_options(data, options)
    if isinstance(found, list):
        faults.add(*found)
        faults.raise_if_any(data.source)
        return data
    return found


# The sources, and what each holds ------------------------------------------------------------------------------------


def _opened(one: Source) -> AbstractContextManager[Table]:
    if isinstance(one.source, (str, os.PathLike)):
        return open_file(Path(one.source))
    return nullcontext(open_memory(one.source, one.name))


@dataclass
class _Reading:
    """The rows of one source, or of all together, that passed."""

    name: str
    shape: TaskShape | None
    unused: tuple[str, ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    examples: list[Example] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    part_sources: dict[str, str] = field(default_factory=dict)

    @property
    def chats(self) -> tuple[Chat, ...]:
        """The chats of all rows, or none."""
        return tuple(example.chat for example in self.examples if example.chat is not None)

    @property
    def is_divided(self) -> bool:
        """Whether the user divided the rows into parts: one part alone is none."""
        return any(self.parts) and set(self.parts) != {"train"}


def _read(one: Source, wishes: Mapping[str, str | None], told: list[str], faults: Faults) -> _Reading | None:
    """The rows of one source, or None where it is left out. Without a shape they are still read, for their form."""
    before = faults.count
    with _opened(one) as table:
        shape = shape_of(table, {**wishes, "split": None} if one.part else wishes) if table.columns else None
        if isinstance(shape, list):
            faults.add(*shape)
            shape = None
        columns = {} if shape is None else dict(shape.columns)
        if one.part:
            columns.pop("split", None)
        reading = _Reading(table.name, None if shape is None else TaskShape(shape.kind, columns))
        checks = ColumnChecks(one.part, wishes["split"] is not None, one.by_name)
        _read_rows(table, reading, checks, faults)
        is_part = one.part in ("validation", "held_out") and one.source is not UNREAD
        if is_part and not checks.rows and faults.count == before:
            remedy = "Leave this part out, or check that this is the source you mean."
            faults.add(Fault(table.name, "no rows", f"rows of the {word_of(one.part)} part", remedy))
        left_out, idle = checks.finish(table.name, columns, told, faults)
        is_column = "split" in columns and "split" not in idle
        if not is_column:
            reading.parts = [one.part] * len(reading.rows)
        used = {column for role, column in columns.items() if role not in idle}
        reading.columns = {role: column for role, column in columns.items() if role not in idle}
        reading.unused = tuple(column for column in table.columns if column not in used)
    origin = f"{table.name}, column {shorten(columns['split'])}" if is_column else one.name
    reading.part_sources = dict.fromkeys(reading.parts, origin)
    return None if left_out else reading


def _read_rows(table: Table, reading: _Reading, checks: ColumnChecks, faults: Faults) -> None:
    columns = {} if reading.shape is None else reading.shape.columns
    letters = 0
    shared: dict[object, Any] = {}  # one object a label, however many rows carry it
    for row in table.rows(tuple(columns.values())):
        if isinstance(row, Fault):
            faults.add(row)
            continue
        if reading.shape is None:
            continue

        def where(role: str, row: Row = row) -> str:
            return place(table.name, row.number, columns[role], row.line)

        values = dict(zip(columns, row.values, strict=True))
        example = example_of(reading.shape.kind, values, where)
        checks.look(row, values, example, where, faults)
        if not isinstance(example, Example):
            continue
        letters += 64 + len(example.input) + len(example.second)
        letters += len(str(example.answer)) if "label" not in columns else 0
        if letters > MAX_LETTERS:
            seen = f"more than {MAX_LETTERS:,} characters in its first {row.number:,} rows"
            faults.add(Fault(table.name, seen, "data that fit into memory", "Take a sample of its rows."))
            return
        reading.examples.append(example._replace(answer=shared.setdefault(example.answer, example.answer)))
        reading.rows.append(row.number)
        reading.parts.append(checks.part)
        reading.weights.append(checks.weight)


# The whole -----------------------------------------------------------------------------------------------------------


def _joined(readings: Sequence[_Reading], faults: Faults) -> _Reading:
    """The rows of all parts together, in one order of parts."""
    first = readings[0]
    if len(readings) > 1:  # the source itself, where the other parts were named
        first.parts = [part or "train" for part in first.parts]
        first.part_sources = {part or "train": source for part, source in first.part_sources.items()}
    for other in readings[1:]:
        for part in sorted(set(first.parts) & set(other.parts)):
            seen, remedy = f"two {word_of(part)} parts: {first.name} and this one", "Leave one of them out."
            faults.add(Fault(other.name, seen, f"one {word_of(part)} part", remedy))
        kinds = [one.shape.kind for one in (first, other) if one.shape is not None]
        if len(set(kinds)) > 1:
            faults.add(Fault(other.name, f"rows of {kinds[1]}", f"rows of {kinds[0]}, as in {first.name}"))
        if fault := _second_texts(first, other):
            faults.add(fault)
        first.examples += other.examples
        first.rows += other.rows
        first.parts += other.parts
        first.weights += other.weights
        first.part_sources |= other.part_sources
        first.unused = tuple(dict.fromkeys([*first.unused, *other.unused]))
    return first


def _second_texts(first: _Reading, other: _Reading) -> Fault | None:
    """The fault of two parts of which one alone has second texts: they would be dropped, or be empty."""
    if first.shape is None or other.shape is None or ("pair" in first.shape.columns) == ("pair" in other.shape.columns):
        return None
    having, lacking = (first, other) if "pair" in first.shape.columns else (other, first)
    seen = f"no second text, and {having.name} has one in its column {shorten(having.columns['pair'])}"
    remedy = "Add that column to the part without it, or drop it from the other."
    return Fault(lacking.name, seen, "a second text in every part or in none", remedy)


def _check_whole(whole: _Reading, faults: Faults) -> None:
    """Faults that only show in all rows together; judged where each row by itself is good."""
    if faults.count:
        return
    count, inputs = len(whole.rows), [(example.input, example.second) for example in whole.examples]
    if count < 2:
        seen = f"{count or 'no'} row{'s' * (count != 1)}" + ("" if whole.shape else " and no columns")
        faults.add(Fault(whole.name, seen, "at least 2 rows", "Check that this is the file you mean."))
        return
    assert whole.shape is not None
    role, column = next(iter(whole.shape.columns.items()))
    where = f"{whole.name}, column {shorten(column)}"
    if all(one == inputs[0] for one in inputs):
        # Of a chat it is what stands before the last answer.
        what = {"messages": "prompt"}.get(role, role)
        several = what if what.endswith("s") else f"{what}s"
        faults.add(Fault(where, f"the same {what} in all {count:,} rows", f"at least 2 different {several}"))
    if 0 < len(whole.chats) < count:
        seen = f"chats in {len(whole.chats):,} of {count:,} rows, and plain texts in the others"
        faults.add(Fault(where, seen, "one kind of rows", "Write all rows as chats, or none."))
    if whole.is_divided and "train" not in whole.parts:
        faults.add(Fault(whole.name, "no row of the training part", "rows to train on", f"Known are {KNOWN_NAMES}."))


def _labels(whole: _Reading, kind: LabelKind, faults: Faults) -> list[Any]:
    """The labels of all rows as they are meant, the sets of them, the numbers, the tags, or the places of answers among
    options; empty after a fault."""
    if not faults.count and whole.shape is not None and whole.shape.kind == "options":
        where = f"{whole.name}, column {shorten(whole.shape.columns['answer'])}"
        texts, names = zip(*(example.options for example in whole.examples), strict=True)
        places = answers_among(where, texts, names, [example.answer for example in whole.examples], whole.rows)
        faults.add(*(one for one in places if isinstance(one, Fault)))
        return [one for one in places if not isinstance(one, Fault)]
    columns = {} if whole.shape is None else whole.shape.columns
    role = next((one for one in ("label", "tags") if one in columns), None)
    if faults.count or role is None:
        return []
    where = f"{whole.name}, column {shorten(columns[role])}"
    given: list[Answer] = [example.answer for example in whole.examples]
    answers, found = tags_in(given) if role == "tags" else answers_in(given, kind, whole.rows)
    faults.add(*(Fault(where, *problem) for problem in found))
    if whole.is_divided and answers and kind != "number":
        what = role.rstrip("s")
        for (part, one), row in unseen(answers, whole.parts, whole.rows).items():
            seen = f"the {what} {shorten(one)} (row {row}), which no row of the training part has"
            remedy = "Add rows of it to the training part, or drop these."
            faults.add(Fault(f"{where}, {word_of(part)} part", seen, f"{what}s that training sees", remedy))
    return answers


def _task_of(whole: _Reading, kind: LabelKind, answers: Sequence[Any], template: str, told: list[str]) -> TaskData:
    assert whole.shape is not None
    examples, rows = whole.examples, tuple(whole.rows)
    inputs = tuple(example.input for example in examples)
    common: dict[str, Any] = {"parts": tuple(whole.parts) if whole.is_divided else (), "columns": whole.columns}
    common |= {"unused_columns": whole.unused, "part_sources": whole.part_sources if whole.is_divided else {}}
    common |= {"weights": tuple(whole.weights) if len(set(whole.weights)) > 1 else ()}
    if "label" in whole.shape.columns:
        common |= {"seconds": tuple(example.second for example in examples) if "pair" in whole.columns else ()}
        return labelled(inputs, kind, answers, {"source": whole.name, "rows": rows, **common}, told)
    if whole.shape.kind == "tags":
        words = tuple(example.words for example in examples)
        return tagged(words, answers, {"source": whole.name, "rows": rows, **common}, told)
    if whole.shape.kind == "options":
        texts = tuple(spaced(example.input, example.options[0]) for example in examples)
        right = tuple(own[int(place)] for own, place in zip(texts, answers, strict=True))
        return Completions(inputs, right, whole.name, rows, tuple(told), options=texts, **common)
    if whole.shape.kind == "spans":
        contexts, spans = zip(*((example.second, example.spans) for example in examples), strict=True)
        return ContextSpans(inputs, contexts, spans, whole.name, rows, tuple(told), **common)
    completions = tuple(str(example.answer) for example in examples)
    chats = whole.chats
    several = sum(sum(turn.role == "assistant" for turn in chat) > 1 for chat in chats)
    if several:
        told = [*told, f"{several:,} of {len(chats):,} chats have several answers; the last one is what is trained."]
    common |= {"chats": chats, "chat_template": template, "needs_template": whole.shape.kind != "instructions"}
    return Completions(inputs, completions, whole.name, rows, tuple(told), **common)
