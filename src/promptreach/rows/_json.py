"""Rows out of JSON: one object a line, or an array of objects, one row in memory at a time."""

import codecs
import json
import lzma
import zlib
from collections.abc import Iterator, Mapping
from io import BufferedIOBase
from typing import Any

from promptreach.errors import Fault
from promptreach.rows._lines import CARRIAGE_RETURNS, MAX_FILE_BYTES, MAX_ROW_BYTES, BadFile, BadRow, Lines
from promptreach.rows._table import Record, Table, place, records, shorten, table_of

_EXPECTED = "one JSON object on the line"
_REMEDY = "Write one object a line; `jq -c '.[]' OLD > NEW` makes such lines from an array."
_OVER_LINES = (
    "one JSON object that goes over several lines",
    "one object a line, or an array of objects",
    "Write the rows alone, for example: jq -c '.data[]' OLD > NEW",
)
_CHUNK = 2**16
_BLANKS = " \t\r\n"


def is_array(stream: Any) -> bool:
    """Whether what the stream is about to give is a JSON array; nothing is taken from it."""
    try:
        start: bytes = stream.peek(1)
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError):
        return False  # the reader that comes next says what is wrong
    return start.removeprefix(codecs.BOM_UTF8).lstrip()[:1] == b"["


def lines_table(name: str, lines: Lines) -> Table:
    """The table in a file with one object a line."""

    def read() -> Mapping[Any, object] | None:
        line = next(lines)
        if not line.strip():
            return None
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            if "\r" in line.strip():  # JSON writes one inside a string as an escape
                raise BadRow(*CARRIAGE_RETURNS) from error
            if lines.row_line == 1 and line.strip() == "{":
                raise BadFile(*_OVER_LINES) from error
            seen = f"broken JSON: {error.msg} at character {error.pos + 1} of {shorten(line.strip())}"
            raise BadRow(seen, _EXPECTED, _remedy(line.strip())) from error
        except (ValueError, RecursionError) as error:  # an integer with thousands of digits; endless nesting
            raise BadRow(f"JSON that cannot be read: {error}", _EXPECTED, _REMEDY) from error
        if not isinstance(value, dict):
            raise BadRow(f"{shorten(value)} ({type(value).__name__})", _EXPECTED, _REMEDY)
        return value

    return table_of(name, records(name, lines, read))


def _remedy(line: str) -> str:
    """What to do with a broken line."""
    if line.endswith("},"):
        return "Leave away the comma behind each object; or write all of them as one array, in square brackets."
    if line.startswith("{'"):
        return "These are Python's quotes: write each object with json.dumps."
    return _REMEDY


def array_table(name: str, stream: BufferedIOBase) -> Table:
    """The table in a file that is one array of objects."""
    return table_of(name, _elements(name, stream))


def _elements(name: str, stream: BufferedIOBase) -> Iterator[Record]:
    """The array's elements; what is broken ends the reading, since nobody knows where the next one begins."""
    text = _Text(stream)
    number = 0
    try:
        text.take("[")
        if text.next_one() == "]":
            return
        while True:
            number += 1
            value = text.value()
            if isinstance(value, dict):
                yield number, None, value
            else:
                seen = f"{shorten(value)} ({type(value).__name__})"
                yield number, None, Fault(place(name, number), seen, "an object with the row's columns")
            if text.next_one() == "]":
                break
            text.take(",")
        text.take("]")
        if text.next_one():
            raise BadFile("text behind the end of the array", "nothing there", "Put all rows into one array.")
    except BadRow as bad:
        yield max(number, 1), None, Fault(place(name, max(number, 1)), *bad.parts)


class _Text:
    """The characters of a stream, as few in memory as the row under way needs."""

    def __init__(self, stream: BufferedIOBase) -> None:
        self._stream, self._decoder, self._json = (
            stream,
            codecs.getincrementaldecoder("utf-8-sig")(),
            json.JSONDecoder(),
        )
        self._text, self._at, self._ended, self._read = "", 0, False, 0

    def next_one(self) -> str:
        """The next character that is no blank, not taken; empty at the end."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in _BLANKS:
                self._at += 1
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def take(self, mark: str) -> None:
        """Go past `mark`.

        Raises:
            BadFile: when something else stands there.
        """
        if (found := self.next_one()) != mark:
            seen = f"{found!r} where {mark!r} should stand" if found else f"an end without {mark!r}"
            raise BadFile(f"broken JSON: {seen}", "an array of objects", "Export the file again.")
        self._at += 1

    def value(self) -> object:
        """The next value.

        Raises:
            BadFile: when it is broken or longer than a row may be.
        """
        self.next_one()
        while True:
            try:
                found, end = self._json.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if len(self._text) - self._at > MAX_ROW_BYTES:
                    seen = f"at least {MAX_ROW_BYTES:,} characters in one row, or broken JSON"
                    raise BadFile(seen, f"no more than {MAX_ROW_BYTES:,}", "Shorten the text.") from error
                if not self._more():
                    seen = f"broken JSON: {error.msg} in {shorten(self._text[self._at : self._at + 200])}"
                    raise BadFile(seen, "an array of objects", "Export the file again.") from error
            except (ValueError, RecursionError) as error:
                raise BadFile(f"JSON that cannot be read: {error}", "an array of objects") from error
            else:
                self._at = end
                return found

    def _more(self) -> bool:
        """Whether there was more to read."""
        if self._ended:
            return False
        if self._read > MAX_FILE_BYTES:
            seen = f"more than {MAX_FILE_BYTES:,} bytes, unpacked"
            raise BadFile(seen, "a smaller file", "Take a sample of its rows.")
        try:
            piece = self._stream.read(_CHUNK)
            self._text = self._text[self._at :] + self._decoder.decode(piece, final=not piece)
        except UnicodeDecodeError as error:
            seen = f"byte 0x{error.object[error.start]:02x} behind offset {self._read + error.start} is not UTF-8"
            raise BadFile(
                seen, "UTF-8 text", "Re-encode it, for example: iconv -f latin1 -t utf-8 OLD > NEW"
            ) from error
        except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
            raise BadFile(f"cannot be read on from here: {error}", "a whole file", "Copy it again.") from error
        self._read, self._at, self._ended = self._read + len(piece), 0, not piece
        return bool(piece)
