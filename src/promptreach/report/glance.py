"""Results at a glance: what an interpreter and a notebook show of one, in at most `MOST_LINES` lines or as HTML.

A result says what its `View` is; the two forms follow. Whatever came from a model or a dataset is escaped: in text for
the terminal, in HTML by the page's own rule.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from markupsafe import Markup, escape

from promptreach.report.formatting import Rows, format_rows, numeric_columns
from promptreach.terminal import one_line

MOST_LINES = 20
"""The lines that a `repr` has at most."""
_WIDTH = 100


@runtime_checkable
class Titled(Rows, Protocol):
    """A table with its title, and the row to draw the eye to."""

    @property
    def title(self) -> str:
        """The title."""

    @property
    def highlight(self) -> int | None:
        """The row, or None."""


@dataclass(frozen=True)
class View:
    """What is seen of a result.

    Attributes:
        heading: the answer, as one line.
        about: a line on where it comes from.
        lines: what else is said, in order.
        tables: shown below, as far as there is room in text.
    """

    heading: str
    about: str = ""
    lines: Sequence[str] = ()
    tables: Sequence[Titled] = ()


class AtAGlance:
    """Something that is shown by its `view`, in an interpreter and in a notebook."""

    def view(self) -> View:
        """What is seen of it at a glance."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return as_text(self.view())

    def __str__(self) -> str:
        return as_text(self.view())

    def _repr_html_(self) -> str:
        return as_html(self.view())


def as_text(view: View) -> str:
    """A view in lines of at most 100 characters, the last of which says how many are left out, if any are."""
    lines = [view.heading, *([view.about] if view.about else []), *view.lines]
    for table in view.tables:
        lines += ["", table.title, *_text_rows(table)]
    shown = [_cut(one_line(line)) for line in lines]
    if len(shown) > MOST_LINES:
        shown = [*shown[: MOST_LINES - 1], f"... {len(shown) - MOST_LINES + 1:,} more lines"]
    return "\n".join(shown)


def as_html(view: View) -> str:
    """A view as a fragment of HTML without script or style of its own, for a notebook's page."""
    parts = [Markup("<div><p><b>{}</b></p>").format(view.heading)]
    if view.about:
        parts.append(Markup("<p><small>{}</small></p>").format(view.about))
    parts += [Markup("<p>{}</p>").format(line) for line in view.lines]
    parts += [_html_table(table) for table in view.tables]
    return str(Markup("\n").join([*parts, Markup("</div>")]))


def _text_rows(table: Titled) -> list[str]:
    cells = [[one_line(cell) for cell in row] for row in [table.columns, *format_rows(table)]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(table.columns))]
    right = numeric_columns(table)
    return [
        "  ".join(
            cell.rjust(width) if flush else cell.ljust(width)
            for cell, width, flush in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in cells
    ]


def _html_table(table: Titled) -> Markup:
    head = Markup("").join(Markup("<th>{}</th>").format(name) for name in table.columns)
    rows = []
    for index, row in enumerate(format_rows(table)):
        mark = Markup("<td><b>{}</b></td>") if index == table.highlight else Markup("<td>{}</td>")
        rows.append(Markup("<tr>{}</tr>").format(Markup("").join(mark.format(cell) for cell in row)))
    body = Markup("\n").join(rows)
    return Markup("<p>{}</p><table><thead><tr>{}</tr></thead><tbody>\n{}\n</tbody></table>").format(
        escape(table.title), head, body
    )


def _cut(line: str) -> str:
    return line if len(line) <= _WIDTH else f"{line[: _WIDTH - 1]}…"


def tables_of(blocks: Sequence[Any]) -> list[Titled]:
    """The tables among blocks of any kind."""
    return [block for block in blocks if block.kind == "table"]
