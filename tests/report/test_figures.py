"""Numbers in words, and figures: whatever is drawn stays inside its frame and says what it shows."""

import math
import re
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptreach.report.axes import linear_axis, log_axis
from promptreach.report.figures import NUM_COLOURS, Scale, curve_svg, heatmap_scale, heatmap_svg, size_of
from promptreach.report.findings import Curve, Heatmap, Series, Table
from promptreach.report.formatting import format_number, format_seconds, format_value
from promptreach.report.picture import picture_svg

ANY_FLOAT = st.floats(allow_nan=True, allow_infinity=True)


# Numbers in words


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.7412, "0.741"),
        (1234567, "1,234,567"),
        (1234567.8, "1,234,568"),
        (1e-5, "1e-05"),
        (999.4, "999"),
        (999.7, "1,000"),
        (0.03, "0.03"),
        (-0.5, "-0.5"),
        (0, "0"),
        (2.0, "2"),
        (1e20, "1e+20"),
        (10**30, "1e+30"),
        (math.nan, "not a number"),
        (math.inf, "infinity"),
        (-math.inf, "minus infinity"),
        (None, "–"),
        (True, "yes"),
        (False, "no"),
    ],
)
def test_format_number(value: float | None, text: str) -> None:
    assert format_number(value) == text


@given(st.floats(min_value=-1e12, max_value=1e12))
def test_format_number_keeps_three_digits(value: float) -> None:
    shown = float(format_number(value).replace(",", ""))
    assert abs(shown - value) <= 0.005001 * abs(value)


def test_format_value_spells_out_lists_and_mappings() -> None:
    assert format_value({"fresh": 1180, "lengths": [1.0, None]}) == "fresh: 1,180; lengths: 1, –"
    assert format_value([]) == format_value({}) == "–"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "under 0.1 s"),
        (0.44, "0.4 s"),
        (9.97, "10 s"),
        (59.9, "1 min 0 s"),
        (200, "3 min 20 s"),
        (7500, "2 h 5 min"),
    ],
)
def test_format_seconds(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


# Figures


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


def test_log_axis_is_linear_in_powers_of_two() -> None:
    axis = log_axis([1.0, 64.0])
    assert axis.labels == ("1", "2", "4", "8", "16", "32", "64")
    assert [axis.share(x) for x in (1.0, 8.0, 64.0)] == [0.0, 0.5, 1.0]


def test_curve_with_a_zero_falls_back_to_a_linear_axis() -> None:
    series = Series(name="s", x=[0.0, 8.0], y=[0.1, 0.2])
    svg = curve_svg(Curve(title="t", x_label="tokens", y_label="accuracy", series=[series], log_x=True))
    assert "log scale" not in svg
    assert len(_marks(svg, "circle")) == 2


@given(st.lists(st.floats(min_value=-1e12, max_value=1e12), min_size=2, max_size=5))
def test_linear_axis_covers_its_values_with_distinct_ticks(values: list[float]) -> None:
    axis = linear_axis(values, pad=0.06)
    assert all(0 <= axis.share(value) <= 1 for value in values)
    assert 2 <= len(axis.ticks) <= 12
    if max(values) - min(values) > 1e-2 * max(map(abs, values)):
        assert len(set(axis.labels)) == len(axis.labels)


def test_a_picture_is_a_whole_document_with_title_legend_and_note():
    curve = Curve(
        title="Errors & <lengths> " + "of many prompts " * 6,
        x_label="tokens",
        y_label="error",
        series=[Series(name="a <b> & c", x=[1, 2, 4], y=[1.0, 1e-3, 1e-6])],
        log_x=True,
        log_y=True,
        note="measured once",
    )
    root = ElementTree.fromstring(picture_svg(curve))
    texts = ["".join(node.itertext()) for node in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"a <b> & c", "measured once", "1e-6", "error (log scale)"} <= set(texts)
    assert " ".join(texts).startswith("Errors & <lengths> of many prompts")
    assert all(len(text) < 70 for text in texts)


def test_a_heatmap_can_be_a_picture():
    heatmap = Heatmap(title="shares", row_name="layer", column_name="head", unit="of attention", values=[[0.1, 0.9]])
    picture = picture_svg(heatmap)
    assert "shares" in "".join(ElementTree.fromstring(picture).itertext())
    # The cells get their size and colour from rules for this class.
    assert '<g class="heat">' in picture


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


# Records that cannot be drawn are refused where they are made


def test_ragged_records_are_refused() -> None:
    with pytest.raises(ValueError, match="row 1 does not"):
        Table(title="t", columns=["a", "b"], rows=[[1, 2], [3]])
    with pytest.raises(ValueError, match="2 x values and 1 y values"):
        Series(name="s", x=[1.0, 2.0], y=[1.0])
