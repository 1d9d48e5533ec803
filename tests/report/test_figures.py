"""Figures: whatever is drawn stays inside its frame and says what it shows."""

import math
import re
import xml.etree.ElementTree as ElementTree

from hypothesis import given
from hypothesis import strategies as st

from promptreach.report.figures import NUM_COLOURS, Scale, curve_svg, heatmap_scale, heatmap_svg, size_of
from promptreach.report.findings import Curve, Heatmap, Series

ANY_FLOAT = st.floats(allow_nan=True, allow_infinity=True)


def _marks(svg: str, tag: str) -> list[tuple[str, str]]:
    """Class and title of each mark, from a strict XML parser."""
    found = ElementTree.fromstring(svg).iter(tag)
    return [(mark.get("class", ""), mark.findtext("title", "")) for mark in found]


def test_heatmap_has_one_titled_cell_for_each_value() -> None:
    heatmap = Heatmap(title="t", values=[[0.0, 0.42], [None, math.nan]], unit="of attention")
    assert _marks(heatmap_svg(heatmap), "rect") == [
        ("c0", "layer 0, head 0: 0 of attention"),
        (f"c{NUM_COLOURS - 1}", "layer 0, head 1: 0.42 of attention"),
        ("none", "layer 1, head 0: no value"),
        ("none", "layer 1, head 1: not a number of attention"),
    ]


@given(
    st.lists(st.lists(st.none() | ANY_FLOAT, max_size=4), max_size=4),
    st.none() | ANY_FLOAT,
    st.none() | ANY_FLOAT,
)
def test_heatmap_draws_any_numbers(values: list[list[float | None]], low: float | None, high: float | None) -> None:
    heatmap = Heatmap(title="t", values=values, unit="u", low=low, high=high)
    marks = _marks(heatmap_svg(heatmap), "rect")
    finite = [value is not None and math.isfinite(value) for row in values for value in row]
    assert [name != "none" for name, _ in marks] == finite


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(allow_nan=False, allow_infinity=False))
def test_scale_is_monotone(first: float, second: float) -> None:
    scale = Scale(-1.0, 3.0)
    low, high = sorted([first, second])
    assert 0 <= scale.colour(low) <= scale.colour(high) <= NUM_COLOURS - 1


def test_scale_takes_the_stated_ends() -> None:
    heatmap = Heatmap(title="t", values=[[0.2, 0.4]], unit="", low=0.0, high=1.0)
    assert heatmap_scale(heatmap) == Scale(0.0, 1.0)
    assert heatmap_scale(Heatmap(title="t", values=[[None]], unit="")) is None


@given(st.lists(st.tuples(ANY_FLOAT, ANY_FLOAT), max_size=6), st.booleans())
def test_curve_draws_any_numbers_inside_its_frame(points: list[tuple[float, float]], log_x: bool) -> None:
    series = Series(name="s", x=[x for x, _ in points], y=[y for _, y in points])
    svg = curve_svg(Curve(title="t", x_label="x", y_label="y", series=[series], log_x=log_x))
    root = ElementTree.fromstring(svg)
    _, _, width, height = map(float, root.get("viewBox", "").split())
    for circle in root.iter("circle"):
        assert 0 <= float(circle.get("cx", "nan")) <= width
        assert 0 <= float(circle.get("cy", "nan")) <= height
    assert "nan" not in svg
    assert "inf" not in re.sub('<title>.*?</title>|aria-label=".*?"|<text.*?</text>', "", svg)


def test_curve_breaks_its_line_where_there_is_no_number() -> None:
    series = Series(name="s", x=[1.0, 2.0, 3.0, 4.0], y=[0.1, math.nan, 0.3, 0.4])
    svg = curve_svg(Curve(title="t", x_label="tokens", y_label="accuracy", series=[series]))
    path = next(path for path in ElementTree.fromstring(svg).iter("path") if "line" in path.get("class", ""))
    assert re.sub("[^ML]", "", path.get("d", "")) == "MML"
    assert _marks(svg, "circle")[1] == ("", "s: 0.3 accuracy at 3 tokens")


def test_curve_with_a_zero_falls_back_to_a_linear_axis() -> None:
    series = Series(name="s", x=[0.0, 8.0], y=[0.1, 0.2])
    svg = curve_svg(Curve(title="t", x_label="tokens", y_label="accuracy", series=[series], log_x=True))
    assert "log scale" not in svg
    assert len(_marks(svg, "circle")) == 2


def test_a_logarithmic_axis_needs_positive_values():
    curve = Curve(title="t", x_label="x", y_label="y", series=[Series(name="s", x=[1], y=[0.0])], log_y=True)
    assert "log scale" not in curve_svg(curve)


def test_a_long_name_of_the_upright_axis_gets_the_height_that_it_needs():
    def height(name: str) -> float:
        curve = Curve(title="t", x_label="x", y_label=name, series=[Series(name="s", x=[1], y=[1.0])], log_y=True)
        return size_of(curve_svg(curve))[1]

    assert height("work") == height("loss, nats a token") == 218
    assert height("the share of exact attention's work in percent") > 280


def test_a_scatter_has_points_and_no_line():
    series = [Series(name="heads", x=[float(k) for k in range(40)], y=[1.0] * 40)]
    curve = Curve(title="t", x_label="x", y_label="y", series=series)
    assert 'class="line' in curve_svg(curve)
    dots = curve_svg(curve.model_copy(update={"scatter": True}))
    assert 'class="line' not in dots
    assert dots.count("<circle") == 40
    assert "dense" not in dots
