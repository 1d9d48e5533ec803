"""A figure as an SVG file of its own: for documentation, for examples, for a slide."""

from markupsafe import Markup

from promptreach.report import figures
from promptreach.report.findings import Curve, Heatmap
from promptreach.report.html import packaged

_MARGIN = 12.0
_LINE = 15.0


def picture_svg(figure: Curve | Heatmap) -> str:
    """`figure` with its title, legend and note, as a complete SVG document that follows the viewer's light or dark."""
    chart = figures.curve_svg(figure) if isinstance(figure, Curve) else figures.heatmap_svg(figure)
    width, height = figures.size_of(chart)
    # Without its own frame, one unit of the figure is one unit here; the style sheet still needs to know the kind.
    inside = Markup(chart[chart.index(">") + 1 : chart.rindex("</svg>")])
    drawing = Markup('<g class="{}">{}</g>').format("curve" if isinstance(figure, Curve) else "heat", inside)
    title = [_text(line, 'class="axis" style="font-weight: 600"') for line in _broken(figure.title, int(width / 6))]
    rows = [*_stacked(title, 8.0), _moved(drawing, _LINE * len(title))]
    rows += _stacked(_captions(figure, width), _LINE * (len(title) + 0.8) + height)
    full = height + 2 * _MARGIN + _LINE * (len(rows) - 1)
    return Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" class="chart" viewBox="0 0 {0} {1}" width="{2}" role="img" '
        'aria-label="{3}"><style>{4}</style><rect width="100%" height="100%" style="fill: var(--paper)"/>'
        '<g transform="translate({5} {5})">{6}</g></svg>\n'
    ).format(
        width + 2 * _MARGIN,
        round(full, 1),
        round(2 * width),
        figure.title,
        Markup("svg { font-family: system-ui, sans-serif; }\n" + packaged("figures.css")),
        _MARGIN,
        Markup("").join(rows),
    )


def _stacked(lines: list[Markup], top: float) -> list[Markup]:
    return [_moved(line, top + _LINE * index) for index, line in enumerate(lines)]


def _moved(content: Markup, down: float) -> Markup:
    return Markup('<g transform="translate(0 {})">{}</g>').format(round(down, 1), content)


def _text(text: str, style: str = "", x: float = 0.0) -> Markup:
    return Markup('<text x="{}" y="0" {}>{}</text>').format(x, Markup(style), text)


def _captions(figure: Curve | Heatmap, width: float) -> list[Markup]:
    """The legend, one line a series, and the note, broken to the figure's width."""
    if isinstance(figure, Curve):
        swatch = Markup('<g transform="translate(0 -8)">{}</g>{}')
        legend = [
            swatch.format(figures.line_swatch(index), _text(series.name, x=40.0))
            for index, series in enumerate(figure.series)
        ]
    else:
        legend = [_text(line) for line in _broken(figures.heatmap_extremes(figure), int(width / 4.9))]
    return legend + [_text(line) for line in _broken(figure.note, int(width / 4.9))]


def _broken(text: str, length: int) -> list[str]:
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + len(word) >= length:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return [line for line in lines if line]
