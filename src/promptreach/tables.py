"""A user's data, read and checked: every fault of a source at once, each with its row and what to do about it.

`read_task` is the front: open the source, choose the columns, check every row, check the whole. How the rows of each
format are read stands in `promptreach._readers`.
"""

import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from difflib import get_close_matches
from numbers import Integral
from pathlib import Path

from promptreach._labels import floats, problems, remarks
from promptreach._lines import MAX_ROW_BYTES
from promptreach._readers import (
    Missing,
    Table,
    format_of,
    open_file,
    open_hub,
    open_memory,
    place,
    shorten,
)
from promptreach.data import Completions, LabelledTexts, TaskData
from promptreach.errors import DataError, Fault

MAX_LETTERS = 2**30
"""The most characters that the rows of one source may have in all; a row counts 64 more for what it takes besides."""

SHOWN_FAULTS = 20
"""The number of faults of one source that are listed; the rest are counted."""

COLUMN_NAMES = {
    "text": ("text", "sentence", "content", "review"),
    "label": ("label", "labels", "category", "class"),
    "prompt": ("prompt",),
    "completion": ("completion",),
}
"""The column names that are looked for when the caller names none."""

_TASKS = (("text", "label"), ("prompt", "completion"))


def read_task(
    source: object,
    *,
    text_col: str | None = None,
    label_col: str | None = None,
    prompt_col: str | None = None,
    completion_col: str | None = None,
) -> TaskData:
    """The classification or completion task in `source`, every row of it checked.

    In every row of the result the text (or prompt and completion) is a string of at most 1 MB that is not blank and
    that UTF-8 can encode; there are two different texts and, with labels, two different labels. Nothing is dropped or
    mended silently.

    Args:
        source: a path to JSON Lines (.jsonl, .ndjson, .json), CSV or TSV, each perhaps with .gz, .bz2 or .xz, or to
            Parquet; a hub id ``owner/name``, where no such path exists; a `datasets.Dataset`; a list of dicts; a
            mapping of columns; a pair (texts, labels); or a task record, which is taken as it is.
        text_col, label_col: the columns of a classification task; None looks for the usual names (`COLUMN_NAMES`).
        prompt_col, completion_col: the columns of a completion task, likewise.

    Raises:
        DataError: listing the faults of the data, up to `SHOWN_FAULTS` of them and the number of the rest.
        MissingExtraError: for Parquet or a hub id without the package that reads it.
    """
    if isinstance(source, (LabelledTexts, Completions)):
        return source
    wishes = {"text": text_col, "label": label_col, "prompt": prompt_col, "completion": completion_col}
    faults = _Faults()
    with _opened(source) as table:
        columns = _choose_columns(table, wishes, faults)
        examples = _check_rows(table, columns, faults)
    _check_whole(table.name, columns, examples, faults)
    faults.raise_if_any(table.name)
    return _task_of(table.name, columns, examples)


@dataclass
class _Faults:
    """The first faults found, and how many there were."""

    shown: list[Fault] = field(default_factory=list)
    count: int = 0

    def add(self, *faults: Fault) -> None:
        self.count += len(faults)
        self.shown += faults[: SHOWN_FAULTS - len(self.shown)]

    def raise_if_any(self, name: str) -> None:
        rest = self.count - len(self.shown)
        more = [Fault(name, f"{rest:,} more faults", "none", "Mend those above first.")] if rest else []
        if self.count:
            raise DataError(self.shown + more)


@dataclass
class _Examples:
    """The rows that passed."""

    inputs: list[str] = field(default_factory=list)
    answers: list[str | int] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)


def _opened(source: object) -> AbstractContextManager[Table]:
    if not isinstance(source, (str, os.PathLike)):
        return nullcontext(open_memory(source))
    path = Path(source)
    looks_like_id = isinstance(source, str) and re.fullmatch(r"[\w.-]+/[\w.-]+", source) and not format_of(path)
    if looks_like_id and not os.path.lexists(path) and not os.path.lexists(path.parent):
        return nullcontext(open_hub(str(source)))
    return open_file(path)


# The columns -------------------------------------------------------------------------------------------------------


def _choose_columns(table: Table, wishes: Mapping[str, str | None], faults: _Faults) -> dict[str, str]:
    """The column of each role of the task: text and label, or prompt and completion. Empty after a fault."""
    if not table.columns:
        return {}
    names = {role: [wish] if (wish := wishes[role]) else usual for role, usual in COLUMN_NAMES.items()}
    found = {role: [column for column in table.columns if column in names[role]] for role in names}
    wished = [task for task in _TASKS if any(wishes[role] for role in task)]
    complete = [task for task in _TASKS if all(found[role] for role in task)]
    begun = [task for task in _TASKS if any(found[role] for role in task)]
    # The caller's word counts first, then a task with all of its columns, then one that misses a column.
    tasks = wished or complete or begun
    if len(tasks) != 1:
        seen = "names for both kinds of task" if wished else f"the columns {_listing(table.columns)}"
        remedy = "Give text_col and label_col, or prompt_col and completion_col (--text-col, --label-col and so on)."
        usual_names = [] if wished or complete else [name for usual in names.values() for name in usual]
        expected = "the columns of one task: a text and a label, or a prompt and a completion"
        known = "" if wished else _known_shape(table.columns)
        faults.add(Fault(table.name, seen, expected, known or remedy + _hint(usual_names, table.columns)))
        return {}
    for role in tasks[0]:
        if len(found[role]) != 1:
            faults.add(_column_fault(table, role, wishes[role], found[role], names[role]))
    chosen = {role: found[role][0] for role in tasks[0] if len(found[role]) == 1}
    if len(chosen) > len(set(chosen.values())):
        seen = f"the column {_listing(chosen.values())} for both"
        faults.add(Fault(f"{table.name}, {' and '.join(chosen)}", seen, "two different columns"))
    return {} if faults.count else chosen


_CHATS = ("messages", "conversations", "conversation", "dialog", "dialogue", "chat")
_PAIRS = (
    ("instruction", ("output", "response", "answer", "completion")),
    ("question", ("answer", "answers", "response")),
    ("query", ("response", "answer")),
    ("input", ("output", "target", "response")),
    ("source", ("target",)),
)
"""The columns of instruction files, by the names that such files have."""


def _known_shape(columns: Sequence[str]) -> str:
    """The way from a shape that is common elsewhere to prompts and completions; empty for one that is not known."""
    by_name = {column.lower(): column for column in columns}
    chat = next((by_name[name] for name in _CHATS if name in by_name), None)
    if chat is not None:
        return (
            f"{chat!r} holds chats: write one row for each, its last answer as the completion and what comes before as "
            "the prompt, for example tokenizer.apply_chat_template(turns[:-1], tokenize=False, "
            "add_generation_prompt=True)."
        )
    for first, seconds in _PAIRS:
        second = next((by_name[name] for name in seconds if name in by_name), None)
        if first in by_name and second is not None:
            prompt, extra = by_name[first], by_name.get("input" if first == "instruction" else "context")
            joined = f" Where {extra!r} belongs to it, write both into one column first." if extra else ""
            return f"Call it with --prompt-col {prompt} --completion-col {second} (prompt_col, completion_col).{joined}"
    return ""


def _column_fault(table: Table, role: str, wish: str | None, found: Sequence[str], names: Sequence[str]) -> Fault:
    """Why there is no single column for `role`."""
    expected, remedy = f"one column for the {role}", f"Name it with {role}_col (--{role}-col)."
    if found:
        seen = f"{len(found)} columns that may be the {role}: {_listing(found)}"
        return Fault(table.name, seen, expected, "Rename one of them." if wish else remedy)
    missing = f"no column {shorten(wish)}" if wish else f"no column for the {role}"
    seen = f"{missing} among {_listing(table.columns)}"
    return Fault(table.name, seen, expected, remedy + _hint(names, table.columns))


def _hint(names: Sequence[str], columns: Sequence[str]) -> str:
    """A guess at what the caller meant by `names`, as a sentence with a space in front; empty without an idea."""
    if len(columns) == 1 and (marks := [mark for mark in (";", "\t", "|", ",") if mark in columns[0]]):
        return f" The columns seem to be separated by {marks[0]!r}: write commas in .csv, tabs in .tsv."
    lower = {column.lower(): column for column in columns}
    close = [lower[match] for name in names for match in get_close_matches(name.lower(), lower, n=1)]
    return f" Did you mean {_listing(dict.fromkeys(close), ' or ')}?" if close else ""


def _listing(columns: Iterable[str], separator: str = ", ") -> str:
    listed = [shorten(column) for column in columns]
    more = [f"{len(listed) - 12} more"] if len(listed) > 12 else []
    return separator.join(listed[:12] + more)


# The rows, and the whole -------------------------------------------------------------------------------------------


def _check_rows(table: Table, columns: Mapping[str, str], faults: _Faults) -> _Examples:
    """The rows whose values are all good. Without columns the rows are still read, for the faults of their form."""
    examples = _Examples()
    shared: dict[object, str | int] = {}  # one object a label, however many rows carry it
    decimals: list[tuple[object, Fault]] = []
    labels = 0
    letters = 0
    for row in table.rows(tuple(columns.values())):
        if isinstance(row, Fault):
            faults.add(row)
            continue
        bad = [
            (value, Fault(place(table.name, row.number, column, row.line), *problem))
            for (role, column), value in zip(columns.items(), row.values, strict=True)
            if (problem := _problem(value, role))
        ]
        is_decimal = [columns.get("label") is not None and _is_decimal(value) for value, _ in bad]
        labels += 1
        decimals += [found for found, decimal in zip(bad, is_decimal, strict=True) if decimal]
        faults.add(*(fault for (_, fault), decimal in zip(bad, is_decimal, strict=True) if not decimal))
        if columns and not bad:
            text, answer = row.values
            letters += 64 + len(str(text)) + (len(str(answer)) if "completion" in columns else 0)
            if letters > MAX_LETTERS:
                seen = f"more than {MAX_LETTERS:,} characters in its first {row.number:,} rows"
                faults.add(Fault(table.name, seen, "data that fit into memory", "Take a sample of its rows."))
                break
            answer = int(answer) if isinstance(answer, Integral) else str(answer)
            examples.inputs.append(str(text))
            examples.answers.append(shared.setdefault(answer, answer))
            examples.rows.append(row.number)
    if decimals and len(decimals) == labels > 1:  # the column is of that kind: one fault, not one a row
        where = f"{table.name}, column {shorten(columns['label'])}"
        faults.add(Fault(where, *floats([value for value, _ in decimals], labels)))
    else:
        faults.add(*(fault for _, fault in decimals))
    return examples


def _is_decimal(value: object) -> bool:
    """Whether a label is a number with a decimal point, or a truth value: a whole column of these is one fault."""
    return isinstance(value, bool) or (isinstance(value, float) and math.isfinite(value))


def _problem(value: object, role: str) -> tuple[str, str, str] | None:
    """The fault of one value: what was seen, what was expected, what to do. None for a good one."""
    expected = "a string or an integer" if role == "label" else "a string"
    if value is Missing.MISSING:
        return "the row does not have this column", expected, "Add it or drop the row."
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return f"no value ({value})", expected, "Fill it in or drop the row."
    if role == "label" and isinstance(value, Integral) and not isinstance(value, bool):
        return None
    if not isinstance(value, str):
        remedy = "Give one label a row, as a name or a whole number." if role == "label" else "Write it as a string."
        return f"{shorten(value)} ({type(value).__name__})", expected, remedy
    if not value.strip():
        seen = "only white space" if value else "an empty string"
        return seen, "at least one visible character", "Fill it in or drop the row."
    if len(value) > MAX_ROW_BYTES:
        return f"{len(value):,} characters: {shorten(value)}", f"no more than {MAX_ROW_BYTES:,}", "Shorten it."
    if match := _UNWRITABLE.search(value):
        seen = f"{match[0]!r} at character {match.start() + 1} of {shorten(value)}"
        return seen, "text that a tokenizer can read", "Remove that character."
    return None


_UNWRITABLE = re.compile("[\0\ud800-\udfff]")  # NUL, and halves of surrogate pairs, which UTF-8 cannot encode


def _check_whole(name: str, columns: Mapping[str, str], examples: _Examples, faults: _Faults) -> None:
    """Faults that only show in all rows together; judged where each row by itself is good."""
    if faults.count:
        return
    count = len(examples.rows)
    if count < 2:
        seen = f"{count or 'no'} row{'s' * (count != 1)}" + ("" if columns else " and no columns")
        faults.add(Fault(name, seen, "at least 2 rows", "Check that this is the file you mean."))
        return
    role, answer_role = columns
    if all(text == examples.inputs[0] for text in examples.inputs):
        where = f"{name}, column {shorten(columns[role])}"
        faults.add(Fault(where, f"the same {role} in all {count:,} rows", f"at least 2 different {role}s"))
    if answer_role == "label":
        where = f"{name}, column {shorten(columns['label'])}"
        faults.add(*(Fault(where, *problem) for problem in problems(examples.answers, examples.rows)))


def _task_of(name: str, columns: Mapping[str, str], examples: _Examples) -> TaskData:
    inputs, answers, rows = examples.inputs, examples.answers, tuple(examples.rows)
    if "prompt" in columns:
        return Completions(tuple(inputs), tuple(map(str, answers)), name, rows)
    numbers = {label: number for number, label in enumerate(sorted(set(answers)))}
    told = remarks(answers, rows)
    return LabelledTexts(tuple(inputs), tuple(numbers[a] for a in answers), tuple(map(str, numbers)), name, rows, told)
