"""Text that virtual tokens hold, as a finding: bits and tokens over their number, beside what counting allows."""

from collections.abc import Callable
from pathlib import Path

from promptreach.capacity.memorise import RATES
from promptreach.capacity.result import Capacity, Level, Line
from promptreach.capacity.scoring import ONE_PASS
from promptreach.capacity.texts import Kind
from promptreach.certificate import Evidence
from promptreach.evidence import Side
from promptreach.files import write_atomically
from promptreach.report.certificates import finished
from promptreach.report.findings import Block, Cell, Curve, Finding, Series, Table, Text
from promptreach.report.formatting import counted
from promptreach.report.html import render_page
from promptreach.report.json import render_finding
from promptreach.report.result import environment

_HELD = {"natural": "bits removed from the bare model's loss", "random": "bits stored of the random source"}


def capacity_finding(capacity: Capacity) -> Finding:
    """What `promptreach.tuning.capacity` found."""
    sequences = len(capacity.levels[0].rows)
    settings = capacity.settings
    rates = ", ".join(map(str, RATES[: settings.starts]))
    starts = f" from {settings.starts} starts at {rates} times the rate in turn" if settings.starts > 1 else ""
    finding = Finding(
        check="capacity",
        title="How much text virtual tokens hold",
        evidence=Evidence.MEASURED,
        sample=(
            f"{capacity.model}: {counted(sequences, 'text')} of each kind, at most "
            f"{counted(settings.steps, 'step')} a run{starts}, seed {settings.seed}"
        ),
        summary=" ".join(_sentence(capacity, *curve) for curve in capacity.curves),
        values=capacity.to_dict(),
        blocks=[
            _levels_table(capacity),
            *_lines_table(capacity),
            *_curves(capacity),
            Text(text=_meaning(capacity)),
            _texts_table(capacity),
        ],
        certificates=[part for level in capacity.levels for part in level.certificates(settings)],
        seconds=capacity.seconds,
    )
    return finished(finding)


def write_memorised(finding: Finding, model: str, folder: Path) -> Path:
    """The path of the page, after capacity.html and capacity.json went into `folder`.

    Raises:
        OutputError: when one of them cannot be written.
    """
    page = render_page(f"What prompts of {model} hold", finding.summary, [finding], environment())
    write_atomically(folder / "capacity.html", page)
    write_atomically(folder / "capacity.json", render_finding(finding))
    return folder / "capacity.html"


def _sentence(capacity: Capacity, method: str, kind: Kind) -> str:
    last = capacity.curve(method, kind)[-1]
    noun = ("prefix slot" if method == "prefix" else "virtual token") + "s" * (last.tokens > 1)
    how = "in one pass" if method == ONE_PASS else "by heart"
    does = "store at least {} bits of" if kind == "random" else "take at least {} bits off the loss of"
    return (
        f"{last.tokens} {noun} {does.format(f'{last.bits.mean:.0f}')} a {kind} text, and make the model write the "
        f"first {last.mean('recalled_free'):.3g} tokens of one {how}."
    )


def _levels_table(capacity: Capacity) -> Table:
    records: list[dict[str, Cell]] = [
        {
            "method": level.method,
            "text": level.kind,
            "virtual tokens": level.tokens,
            "bits held": level.bits.mean,
            "± between texts": level.bits.deviation,
            "tokens recalled": level.mean("recalled"),
            "free-running": level.mean("recalled_free"),
            "token gain": level.mean("gain"),
            "% of the bound": 100 * level.share,
            "tokens by the bound": level.bound.length.value,
        }
        for level in capacity.levels
    ]
    return Table.of(
        "By number of virtual tokens",
        records,
        note="Bits held: for random text, what the loss lies below the bits of its source; for natural text, whose "
        "source is not known, what it lies below the bare model's. Recalled: the longest beginning with every token "
        "the likeliest, read from the true tokens before it, and written by the model alone. Token gain: tokens right "
        "with the virtual tokens minus without, in a text too long to be recalled. MEASURED: more training may find "
        "more. "
        f"The bound is PROVED: a prompt whose entries have {capacity.precision} bits is one of finitely many.",
        sides={"tokens by the bound": Side.UPPER},
    )


def _lines_table(capacity: Capacity) -> list[Block]:
    rows: list[list[Cell]] = []
    for method, kind in capacity.curves:
        lines: list[tuple[str, Line | None]] = [
            (_HELD[kind], capacity.bits_line(method, kind)),
            ("tokens recalled, free-running", capacity.recall_line(method, kind)),
        ]
        rows += [
            [method, kind, name, line.slope.mean, line.slope.deviation, line.intercept, line.r_squared]
            for name, line in lines
            if line is not None
        ]
    table = Table(
        title="For each further virtual token",
        columns=["method", "text", "what", "slope", "± between texts", "at none", "R²"],
        rows=rows,
        note="Straight lines by least squares, one a text; R² is that of the means.",
    )
    return [table] if rows else []


def _curves(capacity: Capacity) -> list[Block]:
    def curve(title: str, label: str, number: Callable[[Level], float]) -> Curve:
        series = []
        for method, kind in capacity.curves:
            levels = capacity.curve(method, kind)
            xs, ys = [float(level.tokens) for level in levels], [number(level) for level in levels]
            series.append(Series(name=f"{method}, {kind} text", x=xs, y=ys))
        return Curve(title=title, x_label="virtual tokens", y_label=label, series=series)

    return [
        curve("Bits held", "bits", lambda level: level.bits.mean),
        curve("Tokens recalled", "tokens, free-running", lambda level: level.mean("recalled_free")),
    ]


def _texts_table(capacity: Capacity) -> Table:
    records: list[dict[str, Cell]] = [
        {
            "method": row.method,
            "virtual tokens": row.tokens,
            "text": f"{row.kind} {row.sequence + 1}",
            "bits without": row.bits_before,
            "bits with": row.bits_after,
            "over tokens": row.length,
            "recalled": row.recalled,
            "free-running": row.recalled_free,
            "steps": row.steps,
            "ended by": row.status,
        }
        for row in capacity.rows
    ]
    return Table.of(
        "Text by text",
        records,
        note="Bits are the loss summed over all tokens, the first one included; every text stands behind the token "
        f"{capacity.opening}, with virtual tokens and without.",
    )


def _meaning(capacity: Capacity) -> str:
    whole = sum(row.status == "whole text" for row in capacity.rows)
    lost = sum(row.status == "diverged" for row in capacity.rows)
    parts = [
        "Every measured number is a lower bound on what is possible: that training did not reach a longer text does "
        "not show that no prompt holds it. Bits, not tokens, are what compares between texts: common words have few."
    ]
    if whole:
        of, were = counted(len(capacity.rows), "text"), "was" if whole == 1 else "were"
        parts.append(f"{whole} of {of} {were} recalled to their end, so more may fit: give longer.")
    if lost:
        parts.append(f"{lost} of {counted(len(capacity.rows), 'training')} diverged; try a lower learning rate.")
    return " ".join(parts)
