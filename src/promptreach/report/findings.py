"""Findings: what a check measured, in a form that rules can judge and any writer can show.

A finding carries numbers by name (`values`, which rules read) and display blocks (which writers show). A new check
therefore needs no change in any rule or writer. These are pydantic models because the report's JSON twin is a
published format: its schema is generated from them.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator, WithJsonSchema, model_validator

from promptreach.certificate import Certificate, Evidence, Side
from promptreach.report.glance import AtAGlance, View, tables_of

FINDING_VERSION = 1
"""The version of a finding's JSON where it stands alone: raised when a field is renamed, removed or changes meaning."""

Cell = str | int | float | bool | None
"""One table cell; None is shown as a dash."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=True, ser_json_inf_nan="strings")


class Text(_Record):
    """A paragraph of plain text."""

    kind: Literal["text"] = "text"
    text: str


class Code(_Record):
    """Something to copy: a command, a configuration, a few lines of Python."""

    kind: Literal["code"] = "code"
    title: str
    language: Literal["shell", "python", "json"]
    text: str


class Table(_Record):
    """Rows under column names. Numbers stay numbers; the writer formats them."""

    kind: Literal["table"] = "table"
    title: str
    columns: list[str]
    rows: list[list[Cell]]
    note: str = ""
    highlight: int | None = None
    """The row to draw the eye to, or None."""
    sides: dict[str, Side] = Field(default_factory=dict)
    """Columns whose numbers are proved bounds, by name: they are shown rounded to this side."""

    @classmethod
    def of(
        cls, title: str, records: Sequence[Mapping[str, Cell]], note: str = "", sides: Mapping[str, Side] | None = None
    ) -> "Table":
        """A table of one record or more, all with the same names, which head its columns."""
        rows = [list(row.values()) for row in records]
        return cls(title=title, columns=list(records[0]), rows=rows, note=note, sides=dict(sides or {}))

    @model_validator(mode="after")
    def _check_rows(self) -> "Table":
        wrong = [index for index, row in enumerate(self.rows) if len(row) != len(self.columns)]
        if wrong:
            raise ValueError(f"table {self.title!r} has {len(self.columns)} columns; row {wrong[0]} does not")
        return self


class Heatmap(_Record):
    """One number for each layer (row) and head (column); None where there is none."""

    kind: Literal["heatmap"] = "heatmap"
    title: str
    values: list[list[float | None]]
    unit: str
    note: str = ""
    row_name: str = "layer"
    column_name: str = "head"
    low: float | None = None
    """The value at the pale end of the scale; None takes the smallest."""
    high: float | None = None
    """The value at the dark end of the scale; None takes the largest."""


class Series(_Record):
    """One line of a curve."""

    name: str
    x: list[float]
    y: list[float]

    @model_validator(mode="after")
    def _check_lengths(self) -> "Series":
        if len(self.x) != len(self.y):
            raise ValueError(f"series {self.name!r} has {len(self.x)} x values and {len(self.y)} y values")
        return self


class Curve(_Record):
    """One or more lines over a common axis; with `scatter`, their points alone."""

    kind: Literal["curve"] = "curve"
    title: str
    x_label: str
    y_label: str
    series: list[Series]
    note: str = ""
    log_x: bool = False
    log_y: bool = False
    scatter: bool = False


Block = Annotated[Text | Code | Table | Heatmap | Curve, Field(discriminator="kind")]


def _certificate(value: Any) -> Certificate:
    """A certificate, or the one in a record that `Certificate.to_dict` made."""
    if isinstance(value, Certificate):
        return value
    try:
        return Certificate.from_dict(value)
    except (TypeError, KeyError, AttributeError) as error:  # pydantic collects ValueErrors alone
        raise ValueError(f"no record of a certificate ({type(error).__name__}: {error})") from error


_Certificate = Annotated[
    Certificate,
    PlainValidator(_certificate),
    PlainSerializer(Certificate.to_dict, return_type=dict[str, Any]),
    WithJsonSchema({"type": "object", "additionalProperties": True}),
]


class Finding(AtAGlance, _Record):
    """What one check found.

    Attributes:
        check: the check's name in the registry.
        title: a few words for the section's heading.
        status: ``done``; ``skipped`` when it does not apply here; ``failed`` when it broke, which never takes the
            report down with it. `reason` says why for the last two.
        evidence: the weakest kind of knowledge among the numbers in `values`.
        sample: what was looked at, for example ``"1,500 training and 800 held-out rows, 1 seed"``.
        summary: one or two plain sentences.
        values: numbers and names for the rules, JSON types only.
        blocks: what a reader sees.
        certificates: all that stand behind this finding; in JSON as `Certificate.to_dict` records them. See
            `promptreach.report.certificates.finished`.
        seconds: how long the check took.
    """

    check: str
    title: str
    status: Literal["done", "skipped", "failed"] = "done"
    evidence: Evidence
    summary: str
    sample: str = ""
    reason: str = ""
    values: dict[str, Any] = Field(default_factory=dict)
    blocks: list[Block] = Field(default_factory=list)
    certificates: list[_Certificate] = Field(default_factory=list)
    seconds: float = 0.0

    def view(self) -> View:
        """Its summary, on what sample, its paragraphs and its tables."""
        why = [f"{self.status}, {self.reason or 'no reason was given'}"] if self.status != "done" else []
        said = [block.text for block in self.blocks if isinstance(block, Text)]
        about = f"Sample: {self.sample}" if self.sample else ""
        return View(f"{self.summary} [{self.evidence.value}]", about, [*why, *said], tables_of(self.blocks))
