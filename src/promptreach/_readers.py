"""Rows out of a file, a hub dataset or memory, one at a time, with a fault in the place of a row that cannot be read.

A reader opens a source as a `Table`: the names of its columns, and a function from the wanted columns to a stream of
rows. Readers judge form only (encoding, quotes, JSON, row size); `promptreach.tables` judges the values.
"""

import bz2
import csv
import enum
import gzip
import importlib
import json
import lzma
import reprlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from io import BufferedIOBase
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

from promptreach._lines import CARRIAGE_RETURNS, MAX_ROW_BYTES, BadFile, BadRow, Lines
from promptreach.errors import DataError, Fault, MissingExtraError, install_command

_PEEKED_ROWS = 20  # rows without a header show their columns by example: this many are looked at


class Missing(enum.Enum):
    """Stands for the value of a column that a row does not have."""

    MISSING = enum.auto()


class Row(NamedTuple):
    """One row: its number (1 is the first data row), its line where the source has lines, and the wanted values."""

    number: int
    line: int | None
    values: tuple[object, ...]


@dataclass(frozen=True)
class Table:
    """An open source.

    Attributes:
        name: what messages call it.
        columns: the names in the header, or those seen in the first rows.
        rows: from the wanted columns to the stream of rows; a row that cannot be read is a fault instead.
    """

    name: str
    columns: tuple[str, ...]
    rows: Callable[[Sequence[str]], Iterator[Row | Fault]]


def place(name: str, number: int, column: str | None = None, line: int | None = None) -> str:
    """The place of a value, for a message: ``"reviews.csv, row 17, column 'label' (line 18)"``; row 0 is the header."""
    text = f"{name}, row {number}" if number else f"{name}, header"
    if column is not None:
        text += f", column {shorten(column)}"
    return f"{text} (line {line})" if line else text


def shorten(value: object, length: int = 60) -> str:
    """`value` as Python would write it, in at most `length` characters, without ever writing a huge one out."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = short.maxlong = length
    text = short.repr(value)
    return text if len(text) <= length else text[: length - 3] + "..."


# Files -------------------------------------------------------------------------------------------------------------

_DECOMPRESSORS: dict[str, Callable[..., Any]] = {
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
}
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_JSON_LINES = (".jsonl", ".ndjson", ".json")
FORMATS = (*_JSON_LINES, *_DELIMITERS, ".parquet")


def format_of(path: Path) -> str:
    """The suffix that names the format of `path`, a compression's suffix set aside; empty when it is unknown."""
    stem = path.with_suffix("") if path.suffix.lower() in _DECOMPRESSORS else path
    suffix = stem.suffix.lower()
    return suffix if suffix in FORMATS and (stem is path or suffix != ".parquet") else ""


@contextmanager
def open_file(path: Path) -> Iterator[Table]:
    """The table in a JSON Lines, CSV, TSV (each perhaps compressed) or Parquet file.

    Raises:
        DataError: when the file cannot be opened, its format is unknown, or its header cannot be read.
        MissingExtraError: for Parquet without pyarrow.
    """
    name, suffix = str(path), format_of(path)
    if path.exists() and not (path.is_file() or path.is_dir()):
        seen, remedy = "a pipe or a device, which may never end", "Write what comes out of it to a file first."
        raise DataError(Fault(name, seen, "a regular file", remedy))
    try:
        raw = path.open("rb")
    except (OSError, ValueError) as error:
        seen = f"cannot be read: {getattr(error, 'strerror', None) or error}"
        raise DataError(Fault(name, seen, "a readable file", _nearby(path))) from error
    with raw:
        if not suffix:
            known = f"a name that ends in {', '.join(FORMATS)}"
            remedy = f"All but .parquet may be compressed ({', '.join(_DECOMPRESSORS)}). Convert or rename the file."
            raise DataError(Fault(name, f"a name that ends in {path.suffix!r}", known, remedy))
        if suffix == ".parquet":
            yield _parquet(name, raw)
            return
        decompress = _DECOMPRESSORS.get(path.suffix.lower())
        lines = Lines(decompress(raw) if decompress else raw)
        yield _delimited(name, lines, _DELIMITERS[suffix]) if suffix in _DELIMITERS else _json_lines(name, lines)


def _nearby(path: Path) -> str:
    """A file in the same folder whose name is close, as a remedy; empty when there is none."""
    try:
        close = get_close_matches(path.name, [item.name for item in path.parent.iterdir()], n=1)
    except (OSError, ValueError):
        return ""
    return f"Did you mean {path.with_name(close[0])}?" if close and close[0] != path.name else ""


Record = tuple[int, int | None, Mapping[Any, object] | Fault]
"""Number and line of a row, and its values by column or the fault that stands in their place."""


def _records(name: str, lines: Lines, read: Callable[[], Mapping[Any, object] | None]) -> Iterator[Record]:
    """The rows that `read` returns one by one; it answers None for a blank line, which is no row."""
    number = 1
    while True:
        lines.begin_row()
        record: Mapping[Any, object] | None = None
        bad: BadRow | None = None
        try:
            record = read()
        except StopIteration:
            return
        except BadRow as error:
            bad = error
        bad = lines.undecodable or bad
        if bad:
            yield number, lines.row_line, Fault(place(name, number, line=lines.row_line), *bad.parts)
            if isinstance(bad, BadFile):
                return
        elif record is not None:
            yield number, lines.row_line, record
        else:
            continue
        number += 1


def _rows(records: Iterator[Record], columns: Sequence[str]) -> Iterator[Row | Fault]:
    """The wanted columns of every record."""
    for number, line, record in records:
        if isinstance(record, Fault):
            yield record
        else:
            yield Row(number, line, tuple(record.get(column, Missing.MISSING) for column in columns))


def _table_of(name: str, records: Iterator[Record]) -> Table:
    """A table without a header: its columns are those of the first rows."""
    head = list(islice(records, _PEEKED_ROWS))
    columns = dict.fromkeys(str(key) for _, _, record in head if not isinstance(record, Fault) for key in record)
    return Table(name, tuple(columns), lambda wanted: _rows(chain(head, records), wanted))


def _json_lines(name: str, lines: Lines) -> Table:
    remedy = "Write one object a line; `jq -c '.[]' OLD > NEW` makes such lines from an array."

    def read() -> Mapping[Any, object] | None:
        line = next(lines)
        if not line.strip():
            return None
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            if "\r" in line.strip():  # JSON writes one inside a string as an escape
                raise BadRow(*CARRIAGE_RETURNS) from error
            seen = f"broken JSON: {error.msg} at character {error.pos + 1} of {shorten(line.strip())}"
            raise BadRow(seen, "one JSON object on the line", remedy) from error
        except (ValueError, RecursionError) as error:  # an integer with thousands of digits; endless nesting
            raise BadRow(f"JSON that cannot be read: {error}", "one JSON object on the line", remedy) from error
        if not isinstance(value, dict):
            raise BadRow(f"{shorten(value)} ({type(value).__name__})", "one JSON object on the line", remedy)
        return value

    return _table_of(name, _records(name, lines, read))


_FIELD_LIMIT = threading.Lock()


def _next_record(reader: Iterator[list[str]]) -> list[str]:
    """The reader's next record, with cells up to `MAX_ROW_BYTES`.

    The csv module keeps one limit for the whole process, far below that. It is raised for this one record and put
    back, so that no other user of the module finds it changed; it is never lowered, even for a moment.
    """
    with _FIELD_LIMIT:
        before = csv.field_size_limit()
        csv.field_size_limit(max(before, MAX_ROW_BYTES))
        try:
            return next(reader)
        except csv.Error as error:
            if "new-line character" in str(error):
                raise BadRow(*CARRIAGE_RETURNS) from error
            remedy = 'Quote a cell that holds a quote or a line break, and double the quotes in it: "a ""b"" c".'
            raise BadRow(f"broken quoting ({error})", "cells as RFC 4180 writes them", remedy) from error
        finally:
            csv.field_size_limit(before)


def _delimited(name: str, lines: Lines, delimiter: str) -> Table:
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        header = next((cells for cells in iter(lambda: _next_record(reader), None) if cells), [])
        bad = lines.undecodable
    except BadRow as error:
        bad = error
    if bad:
        raise DataError(Fault(place(name, 0), *bad.parts))

    def read() -> Mapping[Any, object] | None:
        cells = _next_record(reader)
        if cells and len(cells) != len(header):
            seen = f"{len(cells)} cells: {shorten(cells)}"
            raise BadRow(seen, f"{len(header)}, as in the header", f"Put a cell that holds {delimiter!r} in quotes.")
        return dict(zip(header, cells, strict=True)) if cells else None

    return Table(name, tuple(header), lambda wanted: _rows(_records(name, lines, read), wanted))


def _parquet(name: str, stream: BufferedIOBase) -> Table:
    try:
        arrow = importlib.import_module("pyarrow")
        parquet = importlib.import_module("pyarrow.parquet")
    except ModuleNotFoundError as error:
        seen = "a Parquet file, but pyarrow is not installed"
        raise MissingExtraError(Fault(name, seen, "pyarrow", install_command("parquet"))) from error
    damage = (arrow.ArrowException, OSError, ValueError)

    def fault(error: Exception) -> Fault:
        return Fault(
            name, f"not readable as Parquet: {shorten(str(error), 200)}", "a whole Parquet file", "Export it again."
        )

    def rows(wanted: Sequence[str]) -> Iterator[Row | Fault]:
        number = 0
        try:
            for batch in file.iter_batches(batch_size=4096, columns=list(wanted)):
                for values in zip(*(batch.column(column).to_pylist() for column in wanted), strict=True):
                    number += 1
                    yield Row(number, None, values)
        except damage as error:
            yield fault(error)

    try:
        file = parquet.ParquetFile(stream)
        columns = tuple(file.schema_arrow.names)
    except damage as error:
        raise DataError(fault(error)) from error
    return Table(name, columns, rows)


# The hub, and memory -----------------------------------------------------------------------------------------------


def open_hub(name: str) -> Table:
    """The training split of the hub dataset `name`.

    Raises:
        MissingExtraError: without the datasets package.
        DataError: when the dataset cannot be loaded.
    """
    try:
        datasets = importlib.import_module("datasets")
    except ModuleNotFoundError as error:
        seen = "no such file, and the datasets package, which would look on the hub, is not installed"
        remedy = f"Mend the path, or {install_command('data')}"
        raise MissingExtraError(Fault(name, seen, "a file, or the package `datasets`", remedy)) from error
    try:
        dataset = datasets.load_dataset(name, split="train")
    except Exception as error:  # the hub, the network and each dataset fail in their own ways
        seen = f"the hub dataset does not load: {shorten(str(error), 200)}"
        remedy = "Check the name and the network, or download it and give the file."
        raise DataError(Fault(name, seen, "a dataset with a split 'train'", remedy)) from error

    return _dataset(name, dataset)


def _dataset(name: str, dataset: Any) -> Table:
    """The table in a `datasets.Dataset`, with class names in the place of class numbers."""

    def rows(wanted: Sequence[str]) -> Iterator[Row | Fault]:
        class_names = [getattr(dataset.features[column], "names", None) for column in wanted]
        for number, record in enumerate(dataset.select_columns(list(wanted)), start=1):
            pairs = zip((record[column] for column in wanted), class_names, strict=True)
            yield Row(number, None, tuple(_named(value, names) for value, names in pairs))

    return Table(name, tuple(dataset.column_names), rows)


def _named(value: object, names: Sequence[str] | None) -> object:
    """The class's name; None for the -1 that marks a row without a label; any other value as it is."""
    if names is None or not isinstance(value, int):
        return value
    return names[value] if 0 <= value < len(names) else None


def open_memory(source: object) -> Table:
    """The table in a `datasets.Dataset`, a mapping of columns, a pair (texts, labels), or any iterable of mappings.

    Raises:
        DataError: for anything else, and for columns of different lengths.
    """
    name = "data"
    if hasattr(source, "select_columns"):
        return _dataset(name, source)
    if isinstance(source, tuple) and len(source) == 2 and not any(isinstance(part, Mapping) for part in source):
        source = {"text": source[0], "label": source[1]}
    if isinstance(source, Mapping):
        columns = {str(key): _listed(name, str(key), values) for key, values in source.items()}
        if len({len(values) for values in columns.values()}) > 1:
            lengths = ", ".join(f"{key}: {len(values)}" for key, values in columns.items())
            raise DataError(Fault(name, f"columns of different lengths ({lengths})", "one length"))
        source = (dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True))
        table = _table_of(name, _mappings(name, source))
        return Table(name, tuple(columns), table.rows)
    if not isinstance(source, Iterable) or isinstance(source, (str, bytes)):
        expected = "a path, a hub id, a list of dicts, a mapping of columns, or a pair (texts, labels)"
        raise DataError(Fault(name, f"{shorten(source)} ({type(source).__name__})", expected))
    return _table_of(name, _mappings(name, source))


def _listed(name: str, column: str, values: object) -> list[Any]:
    """A column as a list of plain Python values; arrays and tensors know how to become one."""
    if isinstance(values, Iterable) and not isinstance(values, (str, bytes)):
        return values.tolist() if hasattr(values, "tolist") else list(values)
    raise DataError(Fault(f"{name}, column {shorten(column)}", f"{shorten(values)}", "a list with one value a row"))


def _mappings(name: str, source: Iterable[object]) -> Iterator[Record]:
    for number, record in enumerate(source, start=1):
        if isinstance(record, Mapping):
            yield number, None, record
        else:
            seen = f"{shorten(record)} ({type(record).__name__})"
            remedy = "Of a data frame, pass .to_dict('records')."
            yield number, None, Fault(place(name, number), seen, "a mapping from column to value", remedy)
