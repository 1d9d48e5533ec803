"""The lines of a user's UTF-8 file, in bounded memory, with what is wrong with them as an exception.

Whatever the file is (an archive by mistake, another encoding, one line of ten gigabytes), reading it costs the memory
of one allowed row.
"""

import lzma
import zlib
from io import BufferedIOBase

MAX_ROW_BYTES = 1_000_000
"""The largest row that is read, in bytes; a text this long is beyond every model's context."""

MAX_FILE_BYTES = 2**31
"""The most bytes that are read of one file, unpacked: a file that never ends, or unpacks for ever, ends here."""


CARRIAGE_RETURNS = (
    "lines that end in a carriage return (CR) alone, as old spreadsheets write them",
    "lines that end in a line feed",
    "Save it with Unix line ends, for example: tr '\\r' '\\n' < OLD > NEW",
)
"""The parts of a fault about line ends that no reader takes for any."""


class BadRow(Exception):
    """A row that cannot be read, as the parts of a fault; reading goes on after it."""

    def __init__(self, seen: str, expected: str, remedy: str = "") -> None:
        super().__init__(seen)
        self.parts = (seen, expected, remedy)


class BadFile(BadRow):
    """A file of which nothing more can be read."""


class Lines:
    """The lines of a UTF-8 stream, never holding more than `MAX_ROW_BYTES` of one row.

    Undecodable bytes are replaced and remembered in `undecodable` instead of raised: the parser stays in step with a
    quoted cell that spans lines, and the row becomes one fault.
    """

    def __init__(self, stream: BufferedIOBase) -> None:
        self._stream = stream
        self._line = 0
        self._offset = 0
        self.begin_row()

    def begin_row(self) -> None:
        """Whatever is read from now on belongs to a new row."""
        self.row_line = self._line + 1
        self._row_bytes = 0
        self.undecodable: BadRow | None = None

    def __iter__(self) -> "Lines":
        return self

    def __next__(self) -> str:
        line = self._read()
        if not line:
            raise StopIteration
        self._line += 1
        start, self._offset = self._offset, self._offset + len(line)
        self._row_bytes += len(line)
        if start == 0 and b"\r" in line and not line.endswith(b"\n"):
            raise BadFile(*CARRIAGE_RETURNS)
        while len(line) > MAX_ROW_BYTES and not line.endswith(b"\n"):  # drop the rest of a line that is too long
            line = self._read()
            self._offset += len(line)
            self._row_bytes += len(line)
            if not line:
                break
        if self._row_bytes > MAX_ROW_BYTES:
            raise BadRow(
                f"at least {self._row_bytes:,} bytes in one row",
                f"no more than {MAX_ROW_BYTES:,}",
                "Shorten the text; in a CSV file look for a quote that is never closed.",
            )
        if start == 0:
            if line.startswith((b"\xff\xfe", b"\xfe\xff")):
                raise BadFile("UTF-16 text", "UTF-8", "Re-encode it, for example: iconv -f utf-16 -t utf-8 OLD > NEW")
            line = line.removeprefix(b"\xef\xbb\xbf")
            start = self._offset - len(line)
        try:
            return line.decode()
        except UnicodeDecodeError as error:
            byte, offset = line[error.start], start + error.start
            self.undecodable = self.undecodable or BadRow(
                f"byte 0x{byte:02x} at offset {offset} is not UTF-8",
                "UTF-8 text",
                "Re-encode the file, for example from latin-1: iconv -f latin1 -t utf-8 OLD > NEW",
            )
            return line.decode(errors="replace")

    def _read(self) -> bytes:
        if self._offset > MAX_FILE_BYTES:
            raise BadFile(
                f"more than {MAX_FILE_BYTES:,} bytes, unpacked", "a smaller file", "Take a sample of its rows."
            )
        try:
            return self._stream.readline(MAX_ROW_BYTES + 1)
        except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
            raise BadFile(
                f"cannot be read on from here: {error}", "a whole file", "Copy or compress it again."
            ) from error
