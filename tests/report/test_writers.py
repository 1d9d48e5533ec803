"""The writers without a browser: the JSON twin, the page, files and the terminal."""

import base64
import hashlib
import io
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import get_args

import pytest
from rich.console import Console

from helpers.sample_report import hostile_result, sample_result
from promptreach.audit import AuditResult
from promptreach.certificate import Evidence
from promptreach.errors import InputError, OutputError
from promptreach.report.findings import Curve, Finding
from promptreach.report.html import render_html, render_page
from promptreach.report.json import read_report, render_json, schema
from promptreach.report.result import AuditVerdict, MethodName, Recommendation
from promptreach.report.text import print_finding, print_summary
from promptreach.report.wording import EVIDENCE_MEANING, METHOD_NAMES, VERDICT_WORDS, method_table, settings
from promptreach.report.writing import write_report

ONE_MEGABYTE = 1_000_000


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


@pytest.mark.parametrize("evidence", Evidence)
def test_a_finding_by_itself_says_how_sure_it_is_and_on_which_sample(evidence: Evidence) -> None:
    finding = Finding(check="c", title="t", evidence=evidence, sample="20 \x1b points", summary="It fits.")
    out = io.StringIO()
    print_finding(finding, Console(file=out, width=80))
    assert out.getvalue() == f"It fits. [{evidence.value}]\nSample: 20 \\x1b points\n"


def test_a_finding_by_itself_that_was_not_made_says_why() -> None:
    finding = Finding(
        check="c", title="t", status="skipped", evidence=Evidence.UNKNOWN, summary="Not here.", reason="no text"
    )
    out = io.StringIO()
    print_finding(finding, Console(file=out, width=80))
    assert out.getvalue().split() == ["Not", "here.", "[UNKNOWN]", "skipped,", "no", "text"]


@pytest.mark.parametrize("method", get_args(MethodName))
def test_every_method_that_may_be_recommended_has_a_name(method: MethodName) -> None:
    named = settings(Recommendation(method=method, text="do it"))
    assert named == [("method", METHOD_NAMES[method])]


def test_a_page_shows_findings_without_an_audit():
    finding = Finding(
        check="compile", title="A <function>", summary="fits", evidence=Evidence.MEASURED, sample="20 points", blocks=[]
    )
    page = render_page("Compiled", "what it is", [finding], {"torch": "2"})
    assert "A &lt;function&gt;" in page
    assert "MEASURED" in page
    assert "<script>" in page
