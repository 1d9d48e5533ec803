"""Values of cells, whatever wrote them: gaps, arrays, and lists that CSV holds as JSON or as Python prints them."""

import ast
import json
import math
import re
from typing import Any

from promptreach.errors import DataError, Fault
from promptreach.rows._table import Missing, shorten

_LONGEST = 100_000
"""Characters of a cell that is looked into."""
_TOUCHING = re.compile(r"""['"]\s+['"]""")
"""Texts with nothing between them but blanks, as arrays are printed: Python would read them as one."""


def arrow_values(name: str, column: str, values: Any) -> list[Any]:
    """The values of an Arrow column as Python has them.

    Raises:
        DataError: for values that Python cannot hold, as are dates after the year 9999 and unknown time zones.
    """
    try:
        found: list[Any] = values.to_pylist()
    except (ArithmeticError, ValueError, LookupError) as error:
        seen = f"values of the type {shorten(str(values.type))} that cannot be read: {shorten(str(error), 200)}"
        remedy = "Write them as texts or numbers, or drop the column."
        raise DataError(
            Fault(f"{name}, column {shorten(column)}", seen, "values that Python can hold", remedy)
        ) from error
    return found


def is_gap(value: object) -> bool:
    """Whether a value stands for none."""
    return value is None or value is Missing.MISSING or (isinstance(value, float) and math.isnan(value))


def plain(value: object) -> object:
    """A cell as a Python value: of an array its list, of a number of another library the number itself."""
    return value.tolist() if hasattr(value, "tolist") else value


def is_listed(value: object) -> bool:
    """Whether a value is a text between the brackets of a list."""
    return isinstance(value, str) and value.strip()[:1] == "[" and value.strip()[-1:] == "]"


def from_text(value: object) -> object:
    """The list or the mapping that a text stands for; the value itself where it is no such text.

    Nothing in the text is run: literals alone are read.
    """
    if not isinstance(value, str) or len(value) > _LONGEST:
        return value
    text = value.strip()
    if text[:1] + text[-1:] not in ("[]", "{}"):
        return value
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    if _TOUCHING.search(text):
        return value
    try:
        found = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return value
    return found if isinstance(found, list | dict) else value
