"""Text on its way to a terminal, a pipe or a log: nothing in it is obeyed there, and every encoding can carry it.

Names, labels, texts and messages come from files that anybody may have written. An escape code among them could clear
the screen, set its title or hide a line, so control characters are written out as escapes before anything is printed.
"""

import json
import re
import sys
from typing import Any

_COMMANDS = re.compile("[\0-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""Control characters but the line break, and those that reorder the text around them."""
_NOT_IN_JSON = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Those of the characters above that JSON leaves raw, and halves of surrogate pairs, which no encoding has."""
_NOT_ASCII = re.compile("[^\0-\x7f]")


def printable(text: str, encoding: str | None = "utf-8") -> str:
    """`text` without anything that a terminal obeys, in characters that `encoding` has; line breaks stay."""
    safe = _COMMANDS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
    encoding = encoding or "utf-8"
    return safe.encode(encoding, "backslashreplace").decode(encoding)


def one_line(text: str, encoding: str | None = "utf-8") -> str:
    r"""`printable` text whose line breaks stand as ``\n``, so that foreign text cannot begin a line of its own."""
    return printable(text.replace("\n", "\\n"), encoding)


def printable_json(text: str) -> str:
    """The same JSON with those characters as escapes that a terminal would obey, or that UTF-8 cannot encode."""
    return _NOT_IN_JSON.sub(_as_json, text)


def write_json(text: str, stream: Any = None) -> None:
    """Write JSON to `stream` (standard output), with escapes for whatever its encoding lacks.

    Raises:
        BrokenPipeError: here and not at the interpreter's end, when nobody reads it any more.
    """
    stream = stream or sys.stdout
    text = printable_json(text)
    try:
        text.encode(stream.encoding or "utf-8")
    except UnicodeEncodeError:
        text = _NOT_ASCII.sub(_as_json, text)
    stream.write(text)
    stream.flush()


def say(text: str, *, error: bool = False) -> None:
    """Print a line to standard output, or to standard error, as `printable`."""
    stream = sys.stderr if error else sys.stdout
    print(printable(text, stream.encoding), file=stream, flush=True)


def _as_json(found: re.Match[str]) -> str:
    return json.dumps(found[0])[1:-1]
