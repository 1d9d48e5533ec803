"""Rows out of CSV, TSV, JSON and Parquet files, one at a time."""

import bz2
import csv
import gzip
import importlib
import lzma
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from io import BufferedIOBase
from pathlib import Path
from typing import Any

from promptreach.errors import DataError, Fault, MissingExtraError, install_command
from promptreach.rows._cells import arrow_values
from promptreach.rows._json import array_table, is_array, lines_table
from promptreach.rows._lines import CARRIAGE_RETURNS, MAX_ROW_BYTES, BadRow, Lines
from promptreach.rows._table import Row, Table, place, records, rows_of, shorten

_DECOMPRESSORS: dict[str, Callable[..., Any]] = {
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
}
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_JSON = (".jsonl", ".ndjson", ".json")
_SENTENCES = 'write a sentence a line into a .jsonl file, as {"tokens": ["Ann", "ran"], "ner_tags": ["B-PER", "O"]}.'
_ANY = (
    'Write an object a line into a .jsonl file, as {"text": "so fine", "label": "good"}. Lines with tabs between their '
    "cells may be called .tsv, where the first one names the columns."
)
_OTHERS = {
    **dict.fromkeys((".conll", ".conllu", ".bio", ".iob", ".iob2"), f"Words with tags: {_SENTENCES}"),
    **dict.fromkeys((".txt", ".text", ".dat", ".log"), f"{_ANY} Words with tags: {_SENTENCES}"),
    **dict.fromkeys((".xlsx", ".xls", ".ods"), "Save the sheet as CSV in UTF-8, with the names in its first line."),
    **dict.fromkeys((".arrow", ".feather"), "Convert it: pyarrow or the package datasets write Parquet from it."),
    **dict.fromkeys((".pkl", ".pickle", ".pt", ".npy", ".npz"), "Nothing is unpickled here: write JSON or Parquet."),
}
"""The remedies for files of formats that are not read."""
_LONGEST_NAME = 500
"""Characters of a path that is told where there is no such file: it may be a text by mistake."""
FORMATS = (*_JSON, *_DELIMITERS, ".parquet")


def format_of(path: Path) -> str:
    """The suffix that names the format of `path`, a compression's suffix set aside; empty when it is unknown."""
    stem = path.with_suffix("") if path.suffix.lower() in _DECOMPRESSORS else path
    suffix = stem.suffix.lower()
    return suffix if suffix in FORMATS and (stem is path or suffix != ".parquet") else ""


@contextmanager
def open_file(path: Path) -> Iterator[Table]:
    """The table in a JSON (an object a line, or an array), CSV, TSV (each perhaps compressed) or Parquet file.

    Raises:
        DataError: when the file cannot be opened, its format is unknown, or its header cannot be read.
        MissingExtraError: for Parquet without pyarrow.
    """
    name, suffix = str(path), format_of(path)
    # `os.path` takes a name that is too long for one that is not there, where `Path` raises.
    if os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):
        seen, remedy = "a pipe or a device, which may never end", "Write what comes out of it to a file first."
        raise DataError(Fault(name, seen, "a regular file", remedy))
    if os.path.isdir(path):
        raise DataError(Fault(name, "a folder", "a file", _in_folder(path)))
    try:
        raw = path.open("rb")
    except (OSError, ValueError) as error:
        seen = f"cannot be read: {getattr(error, 'strerror', None) or error}"
        raise DataError(Fault(name[:_LONGEST_NAME], seen, "a readable file", _nearby(path))) from error
    with raw:
        if not suffix:
            known = f"a name that ends in {', '.join(FORMATS)}"
            remedy = f"All but .parquet may be compressed ({', '.join(_DECOMPRESSORS)}). Convert or rename the file."
            remedy = _OTHERS.get(path.suffix.lower(), remedy)
            raise DataError(Fault(name, f"a name that ends in {path.suffix!r}", known, remedy))
        if suffix == ".parquet":
            yield _parquet(name, raw)
            return
        decompress = _DECOMPRESSORS.get(path.suffix.lower())
        stream = decompress(raw) if decompress else raw
        if suffix in _DELIMITERS:
            yield _delimited(name, Lines(stream), _DELIMITERS[suffix])
        else:
            yield array_table(name, stream) if is_array(stream) else lines_table(name, Lines(stream))


def _in_folder(path: Path) -> str:
    """What to name instead of a folder."""
    if any((path / name).exists() for name in ("dataset_info.json", "dataset_dict.json")):
        return f"From Python, give what datasets.load_from_disk({str(path)!r}) returns."
    try:
        files = sorted(item.name for item in path.iterdir() if format_of(item))
    except OSError:
        files = []
    if not files:
        return f"Name a file that ends in {', '.join(FORMATS)}."
    others = ", and those of other parts with --validation and --test" * (len(files) > 1)
    return f"Name one file, such as {path / files[0]}{others}."


def _nearby(path: Path) -> str:
    """What may have been meant by a path without a file, as a remedy; empty when there is no idea."""
    if path.parts[0].endswith(":") and len(path.parts[0]) > len("C:"):
        return "Addresses are not read: download the file first, or give the id of a data set on the hub, owner/name."
    if set("*?[") & set(path.name):
        return "Patterns are not read: join the files into one; those of other parts go with --validation and --test."
    try:
        close = get_close_matches(path.name, [item.name for item in path.parent.iterdir()], n=1)
    except (OSError, ValueError):
        return ""
    return f"Did you mean {path.with_name(close[0])}?" if close and close[0] != path.name else ""


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

    # Separated by something else: that is the fault, and no row has one of its own.
    is_foreign = len(header) == 1 and any(mark in header[0] for mark in (";", "\t", "|", "sep=") if mark != delimiter)

    def read() -> Mapping[Any, object] | None:
        cells = _next_record(reader)
        if is_foreign:
            return {header[0]: delimiter.join(cells)} if cells else None
        if cells and len(cells) != len(header):
            seen = f"{len(cells)} cells: {shorten(cells)}"
            raise BadRow(seen, f"{len(header)}, as in the header", f"Put a cell that holds {delimiter!r} in quotes.")
        return dict(zip(header, cells, strict=True)) if cells else None

    return Table(name, tuple(header), lambda wanted: rows_of(records(name, lines, read), wanted))


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
                listed = (arrow_values(name, column, batch.column(column)) for column in wanted)
                for values in zip(*listed, strict=True):
                    number += 1
                    yield Row(number, None, values)
        except DataError as error:
            yield from error.faults
        except damage as error:
            yield fault(error)

    try:
        file = parquet.ParquetFile(stream)
        columns = tuple(file.schema_arrow.names)
    except damage as error:
        raise DataError(fault(error)) from error
    return Table(name, columns, rows)
