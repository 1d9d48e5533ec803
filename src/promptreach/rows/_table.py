"""A source as a table: the names of its columns, and a stream of rows with a fault where one cannot be read.

Readers make tables and judge form only (encoding, quotes, JSON, row size); `promptreach.tables` judges the values.
"""

import enum
import reprlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any, NamedTuple

from promptreach.errors import Fault
from promptreach.rows._lines import BadFile, BadRow, Lines

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
        first: the first row by column, where the columns are told by the rows.
        rows: from the wanted columns to the stream of rows; a row that cannot be read is a fault instead.
    """

    name: str
    columns: tuple[str, ...]
    rows: Callable[[Sequence[str]], Iterator[Row | Fault]]
    first: Mapping[Any, object] = field(default_factory=dict)


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
    try:
        text = short.repr(value)
    except ValueError:  # an integer of thousands of digits, which Python refuses to write
        text = f"a huge {type(value).__name__}"
    return text if len(text) <= length else text[: length - 3] + "..."


Record = tuple[int, int | None, Mapping[Any, object] | Fault]
"""Number and line of a row, and its values by column or the fault that stands in their place."""


def records(name: str, lines: Lines, read: Callable[[], Mapping[Any, object] | None]) -> Iterator[Record]:
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


def rows_of(found: Iterator[Record], columns: Sequence[str]) -> Iterator[Row | Fault]:
    """The wanted columns of every record."""
    for number, line, record in found:
        if isinstance(record, Fault):
            yield record
        else:
            yield Row(number, line, tuple(record.get(column, Missing.MISSING) for column in columns))


def table_of(name: str, found: Iterator[Record]) -> Table:
    """A table without a header: its columns are those of the first rows."""
    head = list(islice(found, _PEEKED_ROWS))
    columns = dict.fromkeys(str(key) for _, _, record in head if not isinstance(record, Fault) for key in record)
    first: Mapping[Any, object] = next((record for _, _, record in head if not isinstance(record, Fault)), {})
    return Table(name, tuple(columns), lambda wanted: rows_of(chain(head, found), wanted), first)
