"""Numbers and plain values in words that a person reads easily. Shared by the page, its figures and the terminal."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from promptreach.evidence import Side
from promptreach.rounding import shown_bound

DASH = "–"


@runtime_checkable
class Rows(Protocol):
    """Cells under column names, such as `promptreach.report.findings.Table`."""

    @property
    def columns(self) -> Sequence[str]:
        """The names."""

    @property
    def rows(self) -> Sequence[Sequence[Any]]:
        """The cells."""

    @property
    def sides(self) -> Mapping[str, Side]:
        """Columns whose numbers are proved bounds, and their side."""


def format_number(value: int | float | None) -> str:
    """`value` to three significant digits, whole from 1,000 on; never ``nan``, ``inf`` or ``None``.

    Whole numbers keep all their digits up to 1e15. Yes and no stand for booleans, a dash for None.
    """
    if value is None:
        return DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    if math.isnan(value):
        return "not a number"
    if math.isinf(value):
        return "infinity" if value > 0 else "minus infinity"
    # From 999.5 on, three significant digits would print as 1e+03.
    if abs(value) < 1e15 and (isinstance(value, int) or abs(value) >= 999.5):
        return f"{value:,.0f}"
    return f"{value:.3g}"


def counted(count: int, noun: str) -> str:
    """So many of a thing, in words that fit: ``"1 text"``, ``"2,000 texts"``; one word, or an adjective before it."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def format_value(value: Any) -> str:
    """Any JSON value on one line: text as it is, numbers by `format_number`, lists and mappings spelt out."""
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, (int, float)):
        return format_number(value)
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {format_value(item)}" for key, item in value.items()) or DASH
    if isinstance(value, (list, tuple)):
        return ", ".join(format_value(item) for item in value) or DASH
    return str(value)


def format_rows(table: Rows) -> list[list[str]]:
    """The cells of a table on one line each, bounds rounded to the side that their column names."""
    sides = [table.sides.get(name) for name in table.columns]
    return [
        [
            format_value(cell) if side is None else format_bound(cell, side)
            for cell, side in zip(row, sides, strict=True)
        ]
        for row in table.rows
    ]


def format_bound(value: Any, side: Side) -> str:
    """A number that bounds something, rounded to its side; whatever else stands there as `format_value` shows it."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return shown_bound(value, side) if is_number else format_value(value)


def format_seconds(seconds: int | float) -> str:
    """A duration: ``"under 0.1 s"``, ``"0.4 s"``, ``"12 s"``, ``"3 min 20 s"``, ``"2 h 5 min"``."""
    if not math.isfinite(seconds):
        return format_number(seconds)
    if seconds < 0.1:
        return "under 0.1 s"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def numeric_columns(table: Rows) -> list[bool]:
    """For each column whether it holds numbers only (and dashes), so that it is set flush right."""
    return [
        all(cell is None or (isinstance(cell, (int, float)) and not isinstance(cell, bool)) for cell in cells)
        for cells in (zip(*table.rows, strict=True) if table.rows else [()] * len(table.columns))
    ]
