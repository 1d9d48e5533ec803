"""The writers without a browser: numbers, figures, the JSON twin, the terminal, files and sizes."""

import base64
import hashlib
import io
import json
import math
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from sample_result import hostile_result, sample_result

from promptreach.audit.findings import Curve, Finding, Heatmap, Series, Table
from promptreach.audit.result import AuditResult, AuditVerdict
from promptreach.audit.writers import (
    picture_svg,
    print_summary,
    read_report,
    render_html,
    render_json,
    render_page,
    schema,
    write_report,
)
from promptreach.audit.writers.axes import linear_axis, log_axis
from promptreach.audit.writers.figures import NUM_COLOURS, Scale, curve_svg, heatmap_scale, heatmap_svg
from promptreach.audit.writers.formatting import format_number, format_seconds, format_value
from promptreach.audit.writers.wording import EVIDENCE_MEANING, VERDICT_WORDS, method_table
from promptreach.certificate import Evidence
from promptreach.errors import InputError, OutputError

ANY_FLOAT = st.floats(allow_nan=True, allow_infinity=True)
ONE_MEGABYTE = 1_000_000


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


# Records that cannot be drawn are refused where they are made


def test_ragged_records_are_refused() -> None:
    with pytest.raises(ValueError, match="row 1 does not"):
        Table(title="t", columns=["a", "b"], rows=[[1, 2], [3]])
    with pytest.raises(ValueError, match="2 x values and 1 y values"):
        Series(name="s", x=[1.0, 2.0], y=[1.0])


# The JSON twin


def test_json_round_trip_restores_the_result(tmp_path: Path) -> None:
    result = sample_result()
    page = write_report(result, tmp_path)
    again = read_report(page.with_name("report.json"))
    assert render_json(again) == render_json(result)
    assert again.verdict is result.verdict
    curve = again.findings[1].blocks[0]
    assert isinstance(curve, Curve)
    assert math.isnan(curve.series[1].y[-1])


def test_json_has_sorted_keys_and_no_bare_nan() -> None:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    text = render_json(sample_result())
    record = json.loads(text, parse_constant=refuse)
    assert text == json.dumps(record, sort_keys=True, indent=1, ensure_ascii=False) + "\n"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 2}, "schema_version 2; expected schema_version 1"),
        ({"schema_version": True}, "schema_version True"),
        ({"schema_version": None}, "schema_version None"),
        ({"verdict": "PERHAPS"}, "verdict: 'PERHAPS'"),
        ({"extra": 1}, "extra: 1"),
    ],
)
def test_read_report_refuses_what_it_does_not_know(tmp_path: Path, change: dict[str, object], message: str) -> None:
    path = tmp_path / "report.json"
    path.write_text(json.dumps(json.loads(render_json(sample_result())) | change))
    with pytest.raises(InputError, match=re.escape(message)):
        read_report(path)


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff\xfe", b"null"])
def test_read_report_refuses_damaged_files(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=re.escape(str(path))):
        read_report(path)


def test_read_report_refuses_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        read_report(tmp_path / "report.json")


def test_schema_describes_the_twin() -> None:
    described = schema()
    assert json.loads(json.dumps(described)) == described
    assert described["properties"]["schema_version"]["const"] == 1
    assert set(json.loads(render_json(sample_result()))) == set(described["properties"])
    y = described["$defs"]["Series"]["properties"]["y"]["items"]
    assert y == {"anyOf": [{"type": "number"}, {"enum": ["NaN", "Infinity", "-Infinity"]}]}


# The page's file


class _Page(HTMLParser):
    """Tags, attributes and visible text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, list[str]] = {}
        self._open = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open = tag

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        self.text.setdefault(self._open, []).append(data)


@pytest.mark.parametrize("result", [sample_result(), hostile_result()], ids=["sample", "hostile"])
def test_page_asks_the_network_for_nothing(result: AuditResult) -> None:
    page = _Page(render_html(result))
    targets = [
        value or ""
        for _, attributes in page.tags
        for name, value in attributes.items()
        if name in {"src", "href", "srcset", "action", "data", "poster", "xlink:href"}
    ]
    assert targets
    assert all(target == "data:," or target.startswith("#") for target in targets)
    assert "url(" not in "".join(page.text["style"])
    assert "@import" not in "".join(page.text["style"])


def test_page_runs_only_the_code_whose_hash_it_names() -> None:
    page = _Page(render_html(hostile_result()))
    policy = next(str(a["content"]) for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    for tag in ("style", "script"):
        (content,) = page.text[tag]
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
        assert [name for name, _ in page.tags].count(tag) == 1
    names = {name for _, attributes in page.tags for name in attributes}
    assert not {name for name in names if name.startswith("on")} | names & {"style"}


def test_hostile_text_adds_no_element() -> None:
    hostile, harmless = _Page(render_html(hostile_result())), _Page(render_html(hostile_result("harmless")))
    assert [tag for tag, _ in hostile.tags] == [tag for tag, _ in harmless.tags]
    assert [sorted(attributes) for _, attributes in hostile.tags] == [
        sorted(attributes) for _, attributes in harmless.tags
    ]


def test_page_links_lead_somewhere() -> None:
    page = _Page(render_html(sample_result()))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    links = [str(attributes["href"])[1:] for tag, attributes in page.tags if tag == "a"]
    assert len(ids) == len(set(ids))
    assert set(links) <= set(ids)


@pytest.mark.parametrize("verdict", list(AuditVerdict))
def test_every_verdict_has_its_words(verdict: AuditVerdict) -> None:
    result = sample_result(verdict, 2, 2)
    assert _summary(result).startswith(f"{verdict.value}: ")
    assert f"<strong>{verdict.value}</strong> {VERDICT_WORDS[verdict].name}" in render_html(result)
    assert set(EVIDENCE_MEANING) == set(Evidence)


def test_a_result_with_nothing_but_a_verdict_is_shown() -> None:
    result = sample_result(AuditVerdict.UNDECIDED).model_copy(
        update={"findings": [], "reasons": [], "model": {}, "data": {}, "settings": {}, "environment": {}}
    )
    assert result.headline in render_html(result)
    assert "Why" not in _summary(result)


@pytest.mark.parametrize("shape", [(30, 9, 6), (32, 32, 6)])
def test_page_stays_under_a_megabyte(shape: tuple[int, int, int]) -> None:
    layers, heads, heatmaps = shape
    page = render_html(sample_result(AuditVerdict.FORM, layers, heads, heatmaps))
    assert page.count("<rect x=") >= layers * heads * heatmaps
    assert len(page.encode()) < ONE_MEGABYTE


def test_long_tables_fold_and_short_ones_do_not() -> None:
    page = render_html(sample_result())
    assert re.search(r"<summary><bdi>Rows by length</bdi> <span class=\"quiet\">\(16 rows\)", page)
    assert "<summary><bdi>Same text, different labels" not in page


def test_method_table_stands_once_before_the_findings() -> None:
    result = sample_result()
    page = render_html(result)
    found = method_table(result)
    assert found is not None
    assert page.count(f'<h4 dir="auto">{found[1].title}</h4>') == 1
    assert page.index(found[1].title) < page.index('id="why"') < page.index('id="findings"')


# Files


def test_write_makes_the_folder_and_can_be_repeated(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "report"
    page = sample_result().write(folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert page == folder / "report.html"
    assert set(before) == {"report.html", "report.json"}
    sample_result().write(str(folder))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_write_says_when_a_file_is_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "report").write_text("not a folder")
    with pytest.raises(OutputError, match="a folder is needed"):
        sample_result().write(tmp_path / "report")


def test_half_a_surrogate_pair_is_shown_as_an_escape(tmp_path: Path) -> None:
    result = sample_result().model_copy(update={"headline": "broken \ud800 text"})
    page = write_report(result, tmp_path)
    assert "broken \\ud800 text" in page.read_text("utf-8")
    assert json.loads(page.with_name("report.json").read_text("utf-8"))["headline"] == "broken \ud800 text"


# The terminal


def _summary(result: AuditResult, width: int = 80) -> str:
    out = io.StringIO()
    print_summary(result, Console(file=out, width=width))
    return out.getvalue()


def test_summary_says_everything_in_order() -> None:
    text = _summary(sample_result(), 200)
    wanted = [
        "FORM: No number of virtual tokens closes the gap to LoRA here: use LoRA with rank 8. [MEASURED]",
        "Held-out accuracy and cost [MEASURED]",
        ">  LoRA",
        "Why",
        "1. LoRA with rank 8 answers",
        "[PROVED]",
        "What to do now",
        "method LoRA, rank 8, learning rate 0.0002",
        "--budget thorough --out report",
        "Your existing adapter: skipped, no adapter folder was given",
        "failed, OutOfMemoryError",
    ]
    places = [text.index(line) for line in wanted]
    assert places == sorted(places)
    assert text.startswith(wanted[0])


@pytest.mark.parametrize("width", [20, 40, 80, 120])
def test_summary_keeps_to_its_width(width: int) -> None:
    commands = [line for line in _summary(sample_result(), 500).splitlines() if line.startswith("promptreach ")]
    lines = [line for line in _summary(sample_result(), width).splitlines() if line not in commands]
    assert max(map(len, lines)) <= width


def test_summary_names_the_columns_that_do_not_fit() -> None:
    assert "too narrow for: spread, parameters, bytes per request, ms per step." in " ".join(
        _summary(sample_result(), 50).split()
    )
    assert "too narrow" not in _summary(sample_result(), 120)


def test_summary_has_no_colour_off_a_terminal_and_colour_on_one(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for name in ("NO_COLOR", "FORCE_COLOR", "CI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    assert "\x1b" not in _summary(sample_result())
    screen = Terminal()
    print_summary(sample_result(), Console(file=screen, width=80))
    assert "\x1b[1;31m" in screen.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    screen = Terminal()
    print_summary(sample_result(), Console(file=screen, width=80))
    assert "31m" not in screen.getvalue()


def test_data_cannot_command_the_terminal() -> None:
    result = sample_result().model_copy(update={"headline": "\x1b]0;owned\x07 \x9b31m \u202e [red]x[/red] :smile: \r"})
    text = _summary(result)
    assert not set(text) & {"\x1b", "\x07", "\x9b", "\u202e", "\r"}
    assert "\\x1b]0;owned\\x07 \\x9b31m \\u202e [red]x[/red] :smile: \\r" in text


def test_summary_reaches_an_ascii_terminal() -> None:
    raw = io.BytesIO()
    with io.TextIOWrapper(raw, encoding="ascii") as stream:
        print_summary(hostile_result(), Console(file=stream, width=80))
        stream.flush()
        assert b"FORM: No number" in raw.getvalue()


def test_a_skipped_finding_without_a_reason_says_so() -> None:
    finding = Finding(check="c", title="t", status="skipped", evidence=Evidence.UNKNOWN, summary="")
    result = sample_result().model_copy(update={"findings": [finding]})
    assert "no reason was given" in _summary(result)
    assert "no reason was given" in render_html(result)


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


def test_a_page_shows_findings_without_an_audit():
    finding = Finding(
        check="compile", title="A <function>", summary="fits", evidence=Evidence.MEASURED, sample="20 points", blocks=[]
    )
    page = render_page("Compiled", "what it is", [finding], {"torch": "2"})
    assert "A &lt;function&gt;" in page
    assert "MEASURED" in page
    assert "<script>" in page


def test_a_scatter_has_points_and_no_line():
    series = [Series(name="heads", x=[float(k) for k in range(40)], y=[1.0] * 40)]
    curve = Curve(title="t", x_label="x", y_label="y", series=series)
    assert 'class="line' in curve_svg(curve)
    dots = curve_svg(curve.model_copy(update={"scatter": True}))
    assert 'class="line' not in dots
    assert dots.count("<circle") == 40
    assert "dense" not in dots
