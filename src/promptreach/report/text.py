"""The terminal's summary: the verdict line first, then the methods, the reasons and what to do now."""

from collections.abc import Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.table import Table as Grid
from rich.text import Text

from promptreach.report.findings import Code, Finding, Table
from promptreach.report.findings import Text as Paragraph
from promptreach.report.formatting import format_rows, format_seconds, numeric_columns
from promptreach.report.json import render_finding
from promptreach.report.result import Recommendation, Report
from promptreach.report.verdict import VERDICT_WORDS
from promptreach.report.wording import certificate_lines, method_table, settings, subject
from promptreach.terminal import printable, write_json

_GAP = 2  # spaces between columns
_FOLDED = 30
"""The least width of a column whose text is broken to fit."""


class _Output(Console):
    """Standard output; nobody reading it is an error here, and not rich's exit status 1, which is a verdict."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def print_summary(result: Report, console: Console | None = None) -> None:
    """Print a summary of `result` to `console` (standard output).

    It keeps to the console's width, and is coloured only on a terminal and where ``NO_COLOR`` is not set. Text from the
    data can neither colour the terminal nor move its cursor: control characters are printed as escapes.
    """
    console = console or _Output()
    _print_verdict(console, result)
    _print_methods(console, result)
    _print_reasons(console, result)
    _print_certificates(console, result.findings)
    _print_recommendation(console, result.recommendation)
    _print_left_out(console, result)


def print_finding(finding: Finding, console: Console | None = None, *, as_json: bool = False) -> None:
    """Print one finding by itself: its summary, how sure it is and on which sample, its tables, notes and certificates.

    Pictures stay in the report. A check that did not run to its end says why. With `as_json`, standard output gets the
    whole record for programs instead.
    """
    if as_json:
        write_json(render_finding(finding))
        return
    console = console or _Output()
    line = Text(_plain(console, finding.summary), style="bold")
    console.print(line.append(f" [{finding.evidence.value}]", style="not bold"))
    if finding.sample:
        console.print(Text(_plain(console, f"Sample: {finding.sample}"), style="dim"))
    if finding.status != "done":
        _print_paragraph(console, _why_not(finding))
    for block in finding.blocks:
        if isinstance(block, Table):
            _print_heading(console, block.title)
            _print_table(console, block, "A wider one has them, and --json.")
            _print_paragraph(console, block.note)
        elif isinstance(block, Paragraph):
            console.print()
            _print_paragraph(console, block.text)
    _print_certificates(console, [finding])


def _print_verdict(console: Console, result: Report) -> None:
    words = VERDICT_WORDS[result.verdict]
    line = Text(f"{result.verdict.value}: ", style=words.terminal)
    line.append(_plain(console, result.headline), style="bold")
    line.append(f" [{result.evidence.value}]", style="not bold")
    console.print(line)
    about = f"{subject(result)}; " if subject(result) else ""
    console.print(Text(_plain(console, f"{about}{format_seconds(result.seconds)}"), style="dim"))


def _print_methods(console: Console, result: Report) -> None:
    found = method_table(result)
    if found is None:
        return
    finding, table = found
    _print_heading(console, f"{table.title} [{finding.evidence.value}]")
    _print_table(console, table, "The report has them.")
    if table.note:
        _print_paragraph(console, table.note)


def _print_table(console: Console, table: Table, rest: str) -> None:
    """As many columns as fit, and the names of those that do not, with where the `rest` is."""
    lines = [table.columns, *format_rows(table)]
    columns = [[_plain(console, cell) for cell in column] for column in zip(*lines, strict=True)]
    numeric = numeric_columns(table)
    widths = _fitting(columns, numeric, console.width)
    grid = Grid.grid(padding=(0, _GAP, 0, 0))
    grid.add_column()
    is_broken = any(
        cell_len(cell) > width for width, (_, *cells) in zip(widths, columns, strict=False) for cell in cells
    )
    for width, is_numeric in zip(widths, numeric, strict=False):
        grid.add_column(
            width=width,
            justify="right" if is_numeric else "left",
            vertical="top" if is_broken else "bottom",
            overflow="fold",
        )
    shown, left_out = columns[: len(widths)], columns[len(widths) :]
    for index, cells in enumerate(zip(*shown, strict=True), start=-1):
        chosen = index == table.highlight
        style = "bold" if chosen else "dim" if index < 0 else ""
        grid.add_row(">" if chosen else " ", *map(Text, cells), style=style)
    console.print(grid)
    if left_out:
        names = ", ".join(heading for heading, *_ in left_out)
        _print_paragraph(console, f"This terminal is too narrow for: {names}. {rest}")


def _fitting(columns: list[list[str]], numeric: Sequence[bool], terminal: int) -> list[int]:
    """The widths of the leading columns that fit beside each other: headings may break between words, and the text of
    the first one that does not fit anywhere, where enough of the line is left for it."""
    room, widths = terminal - 1, list[int]()
    for (heading, *cells), is_numeric in zip(columns, numeric, strict=True):
        width = max(cell_len(part) for part in ["", *heading.split(), *cells])
        room -= _GAP
        if room < width:
            if room >= _FOLDED and not is_numeric:
                widths.append(room)
            break
        room -= width
        widths.append(width)
    return widths or [max(terminal - 1 - _GAP, 1)]


def _print_reasons(console: Console, result: Report) -> None:
    if not result.reasons:
        return
    _print_heading(console, "Why")
    grid = Grid.grid(padding=(0, 1, 0, 0))
    grid.add_column()
    grid.add_column(overflow="fold")
    for rank, reason in enumerate(result.reasons, start=1):
        text = Text(_plain(console, reason.text)).append(f" [{reason.evidence.value}]", style="dim")
        grid.add_row(f"  {rank}.", text)
    console.print(grid)


def _print_certificates(console: Console, findings: Sequence[Finding]) -> None:
    lines = certificate_lines(item for finding in findings for item in finding.certificates)
    if lines:
        _print_heading(console, "Certificates")
    for line in lines:
        _print_paragraph(console, line)


def _print_recommendation(console: Console, recommendation: Recommendation) -> None:
    _print_heading(console, "What to do now")
    lines = [recommendation.text]
    named = settings(recommendation)
    if named:
        lines.append(", ".join(f"{name} {value}" for name, value in named))
    if recommendation.adapter:
        lines.append(f"The recommended adapter is ready: {recommendation.adapter}")
    if recommendation.serving:
        lines.append(recommendation.serving)
    if recommendation.published:
        lines.append(f"Published at {recommendation.published}")
    for line in lines:
        _print_paragraph(console, line)
    for block in recommendation.blocks:
        if isinstance(block, Code) and block.language == "shell":
            # Not wrapped: a command must survive being copied from a narrow terminal.
            console.print(Text(_plain(console, block.text)), soft_wrap=True, style="cyan")


def _print_left_out(console: Console, result: Report) -> None:
    left_out = [finding for finding in result.findings if finding.status != "done"]
    if left_out:
        _print_heading(console, "Not checked")
    for finding in left_out:
        _print_paragraph(console, f"{finding.title}: {_why_not(finding)}")


def _why_not(finding: Finding) -> str:
    return f"{finding.status}, {finding.reason or 'no reason was given'}"


def _print_heading(console: Console, text: str) -> None:
    console.print()
    console.print(Text(_plain(console, text), style="bold"))


def _print_paragraph(console: Console, text: str) -> None:
    console.print(Padding(Text(_plain(console, text)), (0, 0, 0, 2), expand=False))


def _plain(console: Console, text: str) -> str:
    return printable(text, console.encoding)
