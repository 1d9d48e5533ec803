"""One shape that rows come in, as files: read as meant, or refused with a remedy that leads to what is."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class RowShape:
    """One shape of rows.

    Attributes:
        title: what it is called on the documentation's page.
        files: the content of each file by its name; the first is the data.
        options: of `read_task`; names of files stand for their paths.
        input, answer: what the model reads of the first row and should answer, where the rows are read.
        columns: role and column of all that is used.
        unused: the other columns.
        parts: how many rows each part has; empty where they are divided later.
        remark: words of a remark on the rows.
        refused: words of the fault and of its remedy, where the rows are refused.
        followed: the shape after the remedy; what it reads is what was meant.
    """

    title: str
    files: Mapping[str, str | bytes]
    options: Mapping[str, Any] = field(default_factory=dict)
    input: str = ""
    answer: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    unused: tuple[str, ...] = ()
    parts: Mapping[str, int] = field(default_factory=dict)
    remark: str = ""
    refused: tuple[str, ...] = ()
    followed: "RowShape | None" = None

    def written(self, folder: Path) -> tuple[Path, dict[str, Any]]:
        """The files written below a folder: the data's path, and the options with paths in them."""
        folder.mkdir(exist_ok=True)
        for name, content in self.files.items():
            (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
        options = {key: str(folder / value) if value in self.files else value for key, value in self.options.items()}
        return folder / next(iter(self.files)), options


def lines(*rows: Mapping[str, object]) -> str:
    """JSON, an object a line."""
    return "".join(json.dumps(row) + "\n" for row in rows)


def cells(*rows: Sequence[object], mark: str = ",") -> str:
    """CSV with a header."""
    stream = io.StringIO()
    csv.writer(stream, delimiter=mark, lineterminator="\n").writerows(rows)
    return stream.getvalue()


def turns(
    *said: str, who: Sequence[str] = ("user", "assistant"), keys: Sequence[str] = ("role", "content")
) -> list[Any]:
    """A chat in which two take turns."""
    return [{keys[0]: who[i % 2], keys[1]: text} for i, text in enumerate(said)]


def columns(**values: Sequence[object]) -> str:
    """Rows by column, an object a line."""
    return lines(*(dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)))


def led_to(name: str, text: str | bytes, **more: Any) -> RowShape:
    """The shape that a remedy leads to."""
    return RowShape("", {name: text}, **more)


TEXTS, LABELS = ["fine", "bad"], ["pos", "neg"]
TEXT_AND_LABEL = {"text": "text", "label": "label"}
FINE: dict[str, Any] = {"input": "fine", "answer": "pos", "columns": TEXT_AND_LABEL}
ASKED: dict[str, Any] = {"input": "1+1?", "answer": "2", "columns": {"prompt": "prompt", "completion": "completion"}}
PLAIN = led_to("a.jsonl", columns(text=TEXTS, label=LABELS), **FINE)
PROMPTS = led_to("a.jsonl", columns(prompt=["1+1?", "2+2?"], completion=["2", "4"]), **ASKED)
"""The two plain shapes that many remedies lead to."""
