"""Heatmaps and curves as inline SVG: small, scalable, readable without colour, without a script and by keyboard.

Each mark (a cell, a point) carries its own `<title>`, and marks of one layer or one line share a `<g class="row">`; the
page's script needs nothing else to show tooltips and to move between marks with the arrow keys. Colours are classes, so
that the style sheet can change them for the dark and for print. One SVG unit is one pixel on a phone, which keeps the
labels legible there; wider screens show the figure larger.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

from markupsafe import Markup

from promptreach.report.axes import decade_axis, drawable, linear_axis, log_axis
from promptreach.report.findings import Curve, Heatmap, Series
from promptreach.report.formatting import format_number

NUM_COLOURS = 10
"""Steps of the heatmap's scale; the style sheet has as many."""

NUM_LINE_STYLES = 6
"""Different colour-and-dash styles of a curve's lines in the style sheet."""

_ENLARGE = 1.5  # how much larger than on a phone a figure may be shown
_LETTER = 5.2  # units that a letter of an axis name takes, on average
_CROWDED = 32  # a line of more points shows its points only when they are pointed at


@dataclass(frozen=True)
class Scale:
    """The numbers at the pale and at the dark end of a heatmap."""

    low: float
    high: float

    def colour(self, value: float) -> int:
        """The step of `value`, 0 to NUM_COLOURS - 1; values beyond an end take that end's step."""
        span = self.high / 2 - self.low / 2  # halved: the difference of two large numbers may overflow
        if span <= 0:
            return NUM_COLOURS // 2
        share = min(max((value / 2 - self.low / 2) / span, 0.0), 1.0)
        return min(int(share * NUM_COLOURS), NUM_COLOURS - 1)


def heatmap_scale(heatmap: Heatmap) -> Scale | None:
    """The ends of `heatmap`'s scale, or None when it holds no finite number."""
    seen = [value for value, _, _ in _finite_cells(heatmap)]
    if not seen:
        return None
    low, high = heatmap.low, heatmap.high
    return Scale(
        min(seen) if low is None or not math.isfinite(low) else low,
        max(seen) if high is None or not math.isfinite(high) else high,
    )


def cell_text(heatmap: Heatmap, row: int, column: int, value: float | None) -> str:
    """What the tooltip of one cell says, for example ``"layer 3, head 7: 0.42 of attention"``."""
    place = f"{heatmap.row_name} {row}, {heatmap.column_name} {column}"
    if value is None:
        return f"{place}: no value"
    return f"{place}: {format_number(value)} {heatmap.unit}".rstrip()


def heatmap_extremes(heatmap: Heatmap) -> str:
    """Where the largest and the smallest finite value stand, as a sentence; empty when there is none."""
    cells = _finite_cells(heatmap)
    if not cells:
        return ""
    largest, smallest = (cell_text(heatmap, row, column, value) for value, row, column in (max(cells), min(cells)))
    return f"Largest at {largest}; smallest at {smallest}."


def heatmap_svg(heatmap: Heatmap) -> Markup:
    """`heatmap` as an SVG, one `<rect>` a cell; rows are layers, from the top, columns are heads."""
    num_rows, num_columns = len(heatmap.values), max((len(row) for row in heatmap.values), default=0)
    scale = heatmap_scale(heatmap)
    cell_width = min(22.0, 300 / max(num_columns, 1))
    cell_height = min(22.0, max(330 / max(num_rows, 1), 4.0))
    left, top, bottom = 36.0, 4.0, 34.0
    grid_width, grid_height = cell_width * num_columns, cell_height * num_rows
    width, height = left + max(grid_width, 80) + 8, top + grid_height + bottom

    rows = _join(
        Markup('<g class="row" transform="translate(0 {})">{}</g>').format(
            row,
            _join(
                Markup('<rect x="{}" class="{}"><title>{}</title></rect>').format(
                    column, _cell_class(scale, value), cell_text(heatmap, row, column, value)
                )
                for column, value in enumerate(values)
            ),
        )
        for row, values in enumerate(heatmap.values)
    )
    # The cells are unit squares, sized by the style sheet, which halves the bytes of a large model's page.
    grid = Markup('<g transform="translate({} {}) scale({} {})">{}</g>').format(
        _short(left), _short(top), _short(cell_width), _short(cell_height), rows
    )
    row_labels = _join(
        _label(left - 5, top + (row + 0.5) * cell_height + 3.5, str(row), "end")
        for row in _labelled(num_rows, cell_height, 14.0)
    )
    column_labels = _join(
        _label(left + (column + 0.5) * cell_width, top + grid_height + 13, str(column), "middle")
        for column in _labelled(num_columns, cell_width, 20.0)
    )
    names = _axis_names(heatmap.column_name, left + grid_width / 2, height - 6, heatmap.row_name, top + grid_height / 2)
    described = (
        f"{heatmap.title}: heatmap of {num_rows} rows ({heatmap.row_name}) by {num_columns} columns "
        f"({heatmap.column_name}). {heatmap_extremes(heatmap)} Arrow keys move between cells."
    )
    return _svg("heat", width, height, described, _join([grid, row_labels, column_labels, names]))


def curve_svg(curve: Curve) -> Markup:
    """`curve` as an SVG with axes, grid lines and one line a series, broken where a value cannot be drawn.

    A logarithmic axis (x: powers of two, y: of ten) needs positive values; where some are not, it is linear.
    """
    points = [point for series in curve.series for point in _points(series)]
    xs, ys = [x for x, _ in points], [y for _, y in points]
    is_log = curve.log_x and all(x > 0 for x in xs)
    is_log_y = curve.log_y and all(y > 0 for y in ys)
    x_axis = log_axis(xs) if is_log else linear_axis(xs)
    y_axis = decade_axis(ys) if is_log_y else linear_axis(ys, pad=0.06)
    x_name = f"{curve.x_label} (log scale)" if is_log else curve.x_label
    y_name = f"{curve.y_label} (log scale)" if is_log_y else curve.y_label
    width, left, right, top, bottom = 344.0, 46.0, 14.0, 8.0, 38.0
    height = max(218.0, top + _LETTER * len(y_name) + bottom)  # the name stands upright beside the plot
    floor, wall = height - bottom, width - right

    def place(x: float, y: float) -> tuple[float, float]:
        return left + x_axis.share(x) * (wall - left), floor - y_axis.share(y) * (floor - top)

    parts = []
    for tick, label in zip(y_axis.ticks, y_axis.labels, strict=True):
        _, y = place(x_axis.start, tick)
        parts += [_line(left, y, wall, y, "grid"), _label(left - 5, y + 3.5, label, "end")]
    for tick, label in zip(x_axis.ticks, x_axis.labels, strict=True):
        x, _ = place(tick, y_axis.start)
        parts += [_line(x, floor, x, floor + 4, "frame"), _label(x, floor + 15, label, "middle")]
    parts.append(_line(left, floor, wall, floor, "frame"))
    parts.append(_axis_names(x_name, (left + wall) / 2, height - 6, y_name, (top + floor) / 2))
    for index, series in enumerate(curve.series):
        style = f"s{index % NUM_LINE_STYLES}"
        marks = _join(
            Markup('<circle cx="{}" cy="{}" r="3"><title>{}</title></circle>').format(
                *map(_short, place(x, y)), _point_text(curve, series, x, y)
            )
            for x, y in _points(series)
        )
        if not curve.scatter:
            parts.append(Markup('<path class="line {}" d="{}"/>').format(style, _path(series, place)))
        crowd = " dense" if len(series.x) > _CROWDED and not curve.scatter else ""
        parts.append(Markup('<g class="row {}{}">{}</g>').format(style, crowd, marks))
    names = ", ".join(series.name for series in curve.series)
    described = f"{curve.title}: {curve.y_label} over {curve.x_label}. Lines: {names}. Arrow keys move between points."
    return _svg("curve", width, height, described, _join(parts))


def size_of(chart: Markup) -> tuple[float, float]:
    """The width and height of a figure made here, in its own units."""
    found = re.search(r'viewBox="0 0 ([0-9.]+) ([0-9.]+)"', chart)
    assert found is not None
    return float(found[1]), float(found[2])


def line_swatch(index: int) -> Markup:
    """A short piece of the line of series `index`, for the legend."""
    return Markup(
        '<svg class="swatch" width="34" height="10" aria-hidden="true"><path class="line s{0}" d="M1 5h32"/>'
        '<g class="s{0}"><circle cx="17" cy="5" r="3"/></g></svg>'
    ).format(index % NUM_LINE_STYLES)


def scale_swatch() -> Markup:
    """The heatmap's colours from the low to the high end, for the legend."""
    steps = _join(Markup('<rect x="{}" class="c{}"/>').format(step, step) for step in range(NUM_COLOURS))
    return Markup(
        '<svg class="swatch" width="120" height="12" viewBox="0 0 {} 1" preserveAspectRatio="none" '
        'aria-hidden="true">{}</svg>'
    ).format(NUM_COLOURS, steps)


def _finite_cells(heatmap: Heatmap) -> list[tuple[float, int, int]]:
    return [
        (value, row, column)
        for row, values in enumerate(heatmap.values)
        for column, value in enumerate(values)
        if value is not None and math.isfinite(value)
    ]


def _cell_class(scale: Scale | None, value: float | None) -> str:
    if scale is None or value is None or not math.isfinite(value):
        return "none"
    return f"c{scale.colour(value)}"


def _points(series: Series) -> list[tuple[float, float]]:
    return [(x, y) for x, y in zip(series.x, series.y, strict=True) if drawable(x) and drawable(y)]


def _point_text(curve: Curve, series: Series, x: float, y: float) -> str:
    return f"{series.name}: {format_number(y)} {curve.y_label} at {format_number(x)} {curve.x_label}"


def _path(series: Series, place: Callable[[float, float], tuple[float, float]]) -> str:
    """The line through a series; a point that cannot be drawn lifts the pen."""
    drawn, pen = [], "M"
    for x, y in zip(series.x, series.y, strict=True):
        if not (drawable(x) and drawable(y)):
            pen = "M"
            continue
        drawn.append(pen + " ".join(map(_short, place(x, y))))
        pen = "L"
    return "".join(drawn)


def _labelled(count: int, size: float, room: float) -> range:
    """Which of `count` rows or columns of `size` units get a number, so that each has `room` units."""
    fitting = room / size
    return range(0, count, next((stride for stride in (1, 2, 4, 5, 8, 10, 16, 20, 32) if stride >= fitting), 64))


def _axis_names(x_name: str, x_middle: float, x_baseline: float, y_name: str, y_middle: float) -> Markup:
    return _label(x_middle, x_baseline, x_name, "middle", "axis") + Markup(
        '<text class="axis" text-anchor="middle" transform="translate(10 {}) rotate(-90)">{}</text>'
    ).format(_short(y_middle), y_name)


def _label(x: float, y: float, text: str, anchor: str, kind: str = "tick") -> Markup:
    return Markup('<text class="{}" x="{}" y="{}" text-anchor="{}">{}</text>').format(
        kind, _short(x), _short(y), anchor, text
    )


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    return Markup('<path class="{}" d="M{} {}L{} {}"/>').format(kind, *map(_short, (x1, y1, x2, y2)))


def _svg(kind: str, width: float, height: float, described: str, content: Markup) -> Markup:
    return Markup(
        '<svg class="chart {}" viewBox="0 0 {} {}" width="{}" role="img" tabindex="0" aria-label="{}">{}</svg>'
    ).format(kind, _short(width), _short(height), round(width * _ENLARGE), described, content)


def _short(value: float) -> str:
    """A coordinate with at most three decimals: ``12.346``, ``12.3``, ``12``."""
    return f"{value:.3f}".rstrip("0").rstrip(".")


_join = Markup("").join
