"""The table of what rows may look like, made from the tests' table by reading every row of it."""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from promptreach.errors import InputError
from promptreach.tables import read_task

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from helpers.row_shapes import SHAPES
from helpers.row_shapes.shape import RowShape

_PARTS = {"train": "train", "validation": "validation", "held_out": "test"}


def table() -> str:
    """One row a shape: what becomes of it, as it is read or refused now."""
    with tempfile.TemporaryDirectory() as folder:
        rows = [_row(shape, Path(folder) / str(number)) for number, shape in enumerate(SHAPES)]
    read = sum(not shape.refused for shape in SHAPES)
    head = f"{len(SHAPES)} shapes: {read} are read, {len(SHAPES) - read} are refused with what to do.\n\n"
    return head + "\n".join(["| rows | for example | what happens |", "|---|---|---|", *rows])


def _row(shape: RowShape, folder: Path) -> str:
    path, options = shape.written(folder)
    try:
        task = read_task(path, **options)
    except InputError as error:
        said = f"refused: {error.faults[0].remedy}"
    else:
        used = ", ".join(f"{role} from `{column}`" for role, column in task.columns.items())
        parts = ", ".join(f"{task.parts.count(part)} {word}" for part, word in _PARTS.items() if part in task.parts)
        told = [f"read: {used}", f"parts: {parts}" * bool(parts), *task.remarks]
        told += [f"not used: {', '.join(f'`{column}`' for column in task.unused_columns)}"] * bool(task.unused_columns)
        said = "; ".join(part.rstrip(".") for part in told if part)
    given = {name: value if isinstance(value, str) else ",".join(value) for name, value in shape.options.items()}
    flags = "".join(f"<br>`--{name.replace('_', '-')} {value}`" for name, value in given.items())
    return f"| {shape.title} | {_example(shape)}{flags} | {_escaped(said)} |"


def _example(shape: RowShape) -> str:
    name, content = next(iter(shape.files.items()))
    lines = list(_lines(content))
    shown = lines[:2] if name.endswith(("csv", "tsv")) else lines[:1]
    return "<br>".join(f"`` {_escaped(line)} ``" for line in shown)


def _lines(content: str | bytes) -> Iterator[str]:
    text = content.decode("latin-1") if isinstance(content, bytes) else content
    if text.startswith(("[", "{\n")):
        text = " ".join(line.strip() for line in text.splitlines())
    for line in text.splitlines():
        yield (line if len(line) <= 120 else f"{line[:117]}...").replace("\t", "→")


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
