"""The sources of a task's parts: what the caller named, the splits of a data set, what a hub id leads to."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from promptreach.errors import Fault
from promptreach.rows import _hub
from promptreach.rows._checks import Faults
from promptreach.rows._files import format_of
from promptreach.rows._table import shorten
from promptreach.rows.parts import PARTS, only_split, sources_by_part

UNREAD: list[object] = []
"""No rows, in the place of a source that did not load: its fault is told already."""


@dataclass(frozen=True)
class Source:
    """One source of rows: the part that all of them belong to, or an empty string, and how that is known."""

    part: str
    name: str
    source: object
    by_name: bool = False  # a split of a data set, which may lack labels; not a file that the caller named


def name_of(source: object) -> str:
    """The word of messages for a source that has no name of its own."""
    return str(source) if isinstance(source, (str, os.PathLike)) else "data"


def sources_of(source: object, given: Mapping[str, object], told: list[str], faults: Faults) -> list[Source]:
    """The sources of every part, the training part's first."""
    opened, name = _hub_data(source, faults)
    opened, remarks = only_split(opened, name)
    told += remarks
    by_part = sources_by_part(opened)
    asked = {part: one for part, one in given.items() if one is not None}
    if by_part is None:
        found = [Source("", name, opened)]
    else:
        parts, unknown = by_part
        found = []
        for name_of_part in (part for part in PARTS if part in parts):
            word, one = parts[name_of_part]
            is_path = isinstance(one, (str, os.PathLike))
            said = str(one) if is_path else name if len(parts) == 1 else f"{name}, split {word!r}"
            found.append(Source(name_of_part, said, _hub_data(one, faults)[0], by_name=not is_path))
        told += [f"The split {shorten(word)} is no part of this audit and was not read." for word in unknown]
    for part, one in asked.items():
        opened, name = _hub_data(one, faults)
        if sources_by_part(opened) is not None:
            remedy = f"Name one of them, as in {name}#validation, or pass it alone."
            faults.add(Fault(word_of(part), f"{name} has several splits", "one source of rows", remedy))
            continue
        if any(other.part == part for other in found):
            seen, expected = "given, and a split of the data as well", f"one {word_of(part)} part"
            faults.add(Fault(word_of(part), seen, expected, "Leave one of them out."))
            continue
        found.append(Source(part, name if isinstance(one, (str, os.PathLike)) else word_of(part), opened))
    return found


def word_of(part: str) -> str:
    """The caller's word for a part."""
    return "test" if part == "held_out" else part


def _hub_data(source: object, faults: Faults) -> tuple[object, str]:
    """What a hub id names, `UNREAD` after a fault, or the source itself; and what messages call it."""
    if not isinstance(source, (str, os.PathLike)):
        return source, name_of(source)
    path, name = Path(source), _hub.hub_name(source) if isinstance(source, str) else None
    if name is None or format_of(path) or os.path.lexists(path) or os.path.lexists(path.parent):
        return source, str(source)
    loaded = faults.collect(lambda: _hub.load(str(source), name))
    return UNREAD if loaded is None else loaded, str(source)
