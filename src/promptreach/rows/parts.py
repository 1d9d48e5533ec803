"""The parts that users divide their rows into: the names that parts have, and the sources that hold one each."""

from collections.abc import Mapping
from typing import Any, Literal

from promptreach.errors import DataError, Fault
from promptreach.rows._table import shorten

Part = Literal["train", "validation", "held_out"]
PARTS: tuple[Part, ...] = ("train", "validation", "held_out")

_NAMES: dict[str, Part] = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "development": "validation",
    "eval": "validation",
    "evaluation": "validation",
    "test": "held_out",
    "testing": "held_out",
    "heldout": "held_out",
    "holdout": "held_out",
}
KNOWN_NAMES = ", ".join(_NAMES)
"""The names of parts that are understood, for messages."""


def part_of(name: object) -> Part | None:
    """The part that a name means, whatever its case and hyphens; None for one that nobody knows."""
    return _NAMES.get("".join(char for char in name.lower() if char.isalnum())) if isinstance(name, str) else None


def sources_by_part(source: object) -> tuple[dict[Part, tuple[str, Any]], list[str]] | None:
    """The sources in a dict of them, or a `datasets.DatasetDict`, and the names that mean no part.

    Returns:
        for each part the name and the source; None for what is no such dict. It is one where a name means the training
        part, since a mapping of columns has none of that name.
    """
    if not isinstance(source, Mapping) or "train" not in map(part_of, source):
        return None
    found: dict[Part, tuple[str, Any]] = {}
    unknown = []
    for name, one in source.items():
        part = part_of(name)
        if part is None or part in found:
            unknown.append(str(name))
        else:
            found[part] = (str(name), one)
    return found, unknown


def only_split(source: object, name: str) -> tuple[object, list[str]]:
    """The one split of a `datasets.DatasetDict` that has but one, whatever its name, with a remark on it; whatever else
    as it is, without one.

    Raises:
        DataError: for several splits of which none means the training part.
    """
    if not isinstance(source, Mapping) or "train" in map(part_of, source):
        return source, []
    splits: dict[str, Any] = {str(split): rows for split, rows in source.items()}
    if not splits or not all(hasattr(rows, "column_names") for rows in splits.values()):
        return source, []
    first, *others = splits
    if not others:
        return splits[first], [f"The rows are those of the split {shorten(first)}, the only one."]
    remedy = f"Say which is which: {name}#{first}, and --test {name}#{others[0]} (test=)."
    if name == "data":
        remedy = f"Say which is which: {{'train': data[{first!r}], 'test': data[{others[0]!r}]}}."
    raise DataError(Fault(name, f"the splits {', '.join(map(shorten, splits))}", "one called train", remedy))
