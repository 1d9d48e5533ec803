"""The page without a browser, and the files that it is written to."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from helpers.sample_report import hostile_result, sample_result
from promptreach.audit import AuditResult
from promptreach.certificate import Evidence
from promptreach.errors import OutputError
from promptreach.report.findings import Code, Finding
from promptreach.report.html import render_html, render_page, write_report
from promptreach.report.result import TuningVerdict
from promptreach.report.wording import method_table

ONE_MEGABYTE = 1_000_000


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


@pytest.mark.parametrize("shape", [(30, 9, 6), (32, 32, 6)])
def test_page_stays_under_a_megabyte(shape: tuple[int, int, int]) -> None:
    layers, heads, heatmaps = shape
    page = render_html(sample_result(TuningVerdict.FORM, layers, heads, heatmaps))
    assert page.count("<rect x=") >= layers * heads * heatmaps
    assert len(page.encode()) < ONE_MEGABYTE


def test_long_tables_fold_and_short_ones_do_not() -> None:
    page = render_html(sample_result())
    assert re.search(r"<summary><bdi>Rows by length</bdi> <span class=\"quiet\">\(16 rows\)", page)
    assert "<summary><bdi>Same text, different labels" not in page


def test_long_code_folds_and_short_code_does_not() -> None:
    result = sample_result()
    long, short = "\n".join(["x = 1"] * 40), "print(1)"
    blocks = [Code(title="Long", language="python", text=long), Code(title="Short", language="python", text=short)]
    advice = result.recommendation.model_copy(update={"blocks": blocks})
    page = render_html(result.model_copy(update={"recommendation": advice}))
    assert re.search(r"Long</figcaption>\s*<details><summary>40 lines</summary>", page)
    assert re.search(r"Short</figcaption>\s*<pre", page)


def test_what_was_not_asked_stands_in_one_list_behind_what_was_found() -> None:
    result = sample_result()
    skipped = [finding for finding in result.findings if finding.status == "skipped"]
    page = render_html(result)
    assert skipped
    assert page.index('id="findings"') < page.index('id="not-asked"') < page.index('id="about"')
    listed = page[page.index('<section id="not-asked">') : page.index('id="about"')]
    assert all(finding.title in listed and finding.reason in listed for finding in skipped)
    assert all(page.count(finding.title) == 1 for finding in skipped)
    done = result.model_copy(update={"findings": [one for one in result.findings if one.status == "done"]})
    assert "not-asked" not in render_html(done).split("</style>")[1]


def test_method_table_stands_once_before_the_findings() -> None:
    result = sample_result()
    page = render_html(result)
    found = method_table(result)
    assert found is not None
    assert page.count(f'<h4 dir="auto">{found[1].title}</h4>') == 1
    assert page.index(found[1].title) < page.index('id="why"') < page.index('id="findings"')


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


def test_a_page_shows_findings_without_an_audit():
    finding = Finding(
        check="compile", title="A <function>", summary="fits", evidence=Evidence.MEASURED, sample="20 points", blocks=[]
    )
    page = render_page("Compiled", "what it is", [finding], {"torch": "2"})
    assert "A &lt;function&gt;" in page
    assert "MEASURED" in page
    assert "<script>" in page
