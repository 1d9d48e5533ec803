"""Rows out of what a Python program holds: lists of dicts, columns, data frames, Arrow tables and `datasets`."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from promptreach.errors import DataError, Fault
from promptreach.rows._cells import arrow_values
from promptreach.rows._table import Record, Row, Table, place, shorten, table_of

_GAPS = ("NAType", "NaTType")


def open_memory(source: object, name: str = "data") -> Table:
    """The table in a frame, a `datasets.Dataset`, a mapping of columns, a pair (texts, labels), or mappings.

    Frames are those of pandas and polars, lazy ones too, and Arrow tables: whatever has their methods.

    Raises:
        DataError: for anything else, and for columns of different lengths.
    """
    if hasattr(source, "select_columns"):
        return open_dataset(name, source)
    if (columns := _frame(name, source)) is not None:
        return _of_columns(name, columns)
    if isinstance(source, tuple) and len(source) == 2 and not any(isinstance(part, Mapping) for part in source):
        source = {"text": source[0], "label": source[1]}
    if isinstance(source, Mapping):
        _refuse_twins(name, list(source))
        return _of_columns(name, {str(key): _listed(name, str(key), values) for key, values in source.items()})
    if not isinstance(source, Iterable) or isinstance(source, (str, bytes)):
        expected = "a path, a hub id, a list of dicts, a frame, a mapping of columns, or a pair (texts, labels)"
        raise DataError(Fault(name, f"{shorten(source)} ({type(source).__name__})", expected))
    return table_of(name, _mappings(name, source))


def open_dataset(name: str, dataset: Any) -> Table:
    """The table in a `datasets.Dataset`, with class names in the place of class numbers."""

    def rows(wanted: Sequence[str]) -> Iterator[Row | Fault]:
        class_names = [_class_names(dataset.features[column]) for column in wanted]
        for number, record in enumerate(dataset.select_columns(list(wanted)), start=1):
            pairs = zip((record[column] for column in wanted), class_names, strict=True)
            yield Row(number, None, tuple(_named(value, names) for value, names in pairs))

    return Table(name, tuple(dataset.column_names), rows)


def _class_names(feature: Any) -> Sequence[str] | None:
    """The names of a feature of classes, or of a list of them; None for any other."""
    return getattr(feature, "names", None) or getattr(getattr(feature, "feature", None), "names", None)


def _named(value: object, names: Sequence[str] | None) -> object:
    """The class's name; None for the -1 that marks a row without a label; any other value as it is."""
    if names is not None and isinstance(value, list):
        return [_named(one, names) for one in value]
    if names is None or not isinstance(value, int):
        return value
    return names[value] if 0 <= value < len(names) else None


def _frame(name: str, source: Any) -> dict[str, list[Any]] | None:
    """The columns of a frame or an Arrow table; None for anything else."""
    if hasattr(source, "collect_schema") and hasattr(source, "collect"):
        source = source.collect()
    if hasattr(source, "column_names") and hasattr(source, "to_pylist"):
        names = list(source.column_names)
        values = [arrow_values(name, *one) for one in zip(names, source.columns, strict=True)]
    elif hasattr(source, "columns") and (hasattr(source, "to_dicts") or hasattr(source, "iloc")):
        names = list(source.columns)
        values = [source[column].to_list() for column in names] if len(set(names)) == len(names) else []
    else:
        return None
    _refuse_twins(name, names)
    pairs = zip(names, values, strict=True)
    return {str(column): [_plain(value) for value in column_values] for column, column_values in pairs}


def _refuse_twins(name: str, names: Sequence[object]) -> None:
    """Refuse two columns of one name, or of a number and its digits, of which one would hide the other."""
    counts = Counter(map(str, names))
    if twice := dict.fromkeys(shorten(column) for column in names if counts[str(column)] > 1):
        seen = f"columns of the same name: {', '.join(twice)}"
        raise DataError(Fault(name, seen, "columns of different names", "Rename or drop one of them."))


def _plain(value: Any) -> object:
    """A cell as a Python value: None for a frame's own gaps, a list for an array."""
    if type(value).__name__ in _GAPS:
        return None
    return value.tolist() if hasattr(value, "tolist") else value


def _of_columns(name: str, columns: Mapping[str, Sequence[Any]]) -> Table:
    if len({len(values) for values in columns.values()}) > 1:
        lengths = ", ".join(f"{key}: {len(values)}" for key, values in columns.items())
        raise DataError(Fault(name, f"columns of different lengths ({lengths})", "one length"))
    source = (dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True))
    return Table(name, tuple(columns), table_of(name, _mappings(name, source)).rows)


def _listed(name: str, column: str, values: object) -> list[Any]:
    """A column as a list of plain Python values; arrays and tensors know how to become one."""
    if isinstance(values, Iterable) and not isinstance(values, (str, bytes)):
        return values.tolist() if hasattr(values, "tolist") else list(values)
    raise DataError(Fault(f"{name}, column {shorten(column)}", f"{shorten(values)}", "a list with one value a row"))


def _mappings(name: str, source: Iterable[object]) -> Iterator[Record]:
    for number, record in enumerate(source, start=1):
        if isinstance(record, Mapping):
            yield number, None, record
        else:
            seen = f"{shorten(record)} ({type(record).__name__})"
            remedy = "Give each row as a dict, or all of them as a pair (texts, labels)."
            yield number, None, Fault(place(name, number), seen, "a mapping from column to value", remedy)
