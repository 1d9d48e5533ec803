"""For the reference: docstrings may speak of several parameters in one line, and the reader of docstrings may not.

`keys, values: what they are` becomes a line for each, so that each gets its type and is checked against the signature.
"""

import re
from typing import Any

import griffe

_GROUP = re.compile(r"^( +)(\w+(?:, \w+)+): (.*(?:\n\1 +.*)*)$", re.MULTILINE)


class GroupedNames(griffe.Extension):
    """Takes the groups of every docstring apart."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring of one function, class or module."""
        if obj.docstring is not None:
            obj.docstring.value = _GROUP.sub(_each_alone, obj.docstring.value)


def _each_alone(group: re.Match[str]) -> str:
    indent, names, text = group.groups()
    return "\n".join(f"{indent}{name}: {text}" for name in names.split(", "))
