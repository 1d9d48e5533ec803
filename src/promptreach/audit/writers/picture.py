"""A figure as an SVG file of its own: for documentation, for examples, for a slide."""

from markupsafe import Markup

from promptreach.audit.findings import Curve, Heatmap
from promptreach.audit.writers import figures
from promptreach.audit.writers.html import packaged

_MARGIN = 12.0
_LINE = 15.0


def picture_svg(figure: Curve | Heatmap) -> str:
    """`figure` with its title, legend and note, as a complete SVG document that follows the viewer's light or dark."""
    chart = figures.curve_svg(figure) if isinstance(figure, Curve) else figures.heatmap_svg(figure)
    width, height = figures.size_of(chart)
    below = [line for text in _captions(figure, width) for line in text]
    full = height + 2 * _MARGIN + _LINE + _LINE * len(below)
    lines = Markup("").join(
        Markup('<g transform="translate({} {})">{}</g>').format(
            _MARGIN, _MARGIN + _LINE + height + _LINE * (index + 0.8), line
        )
        for index, line in enumerate(below)
    )
    return Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" class="chart" viewBox="0 0 {0} {1}" width="{2}" role="img" '
        'aria-label="{3}"><style>{4}</style><rect width="100%" height="100%" style="fill: var(--paper)"/>'
        '<text class="axis" x="{5}" y="{6}" style="font-weight: 600">{3}</text>'
        '<g transform="translate({5} {7})">{8}</g>{9}</svg>\n'
    ).format(
        width + 2 * _MARGIN,
        round(full, 1),
        round(2 * width),
        figure.title,
        Markup("svg { font-family: system-ui, sans-serif; }\n" + packaged("figures.css")),
        _MARGIN,
        _MARGIN + 8,
        _MARGIN + _LINE,
        chart,
        lines,
    )


def _captions(figure: Curve | Heatmap, width: float) -> list[list[Markup]]:
    """The legend, one line a series, and the note, broken to the figure's width."""
    text = Markup('<text x="{}" y="0">{}</text>')
    legend = []
    if isinstance(figure, Curve):
        legend = [
            figures.line_swatch(index) + text.format(40, series.name) for index, series in enumerate(figure.series)
        ]
        legend = [Markup('<g transform="translate(0 -8)">{}</g>{}').format(*_split(line)) for line in legend]
    else:
        scale = figures.heatmap_scale(figure)
        legend = [text.format(0, f"{figures.heatmap_extremes(figure)} {figure.unit}")] if scale else []
    return [legend, [text.format(0, line) for line in _broken(figure.note, int(width / 4.9))]]


def _split(line: Markup) -> tuple[Markup, Markup]:
    swatch, end, words = line.partition("</svg>")
    return Markup(swatch + end), Markup(words)


def _broken(text: str, length: int) -> list[str]:
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + len(word) >= length:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return [line for line in lines if line]
