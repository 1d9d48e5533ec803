"""What a notebook and an interpreter show: at most twenty lines, everything escaped, and the verdict first."""

import re
from html.parser import HTMLParser

import pytest

from helpers.sample_report import sample_result
from promptreach.certificate import Evidence
from promptreach.report.findings import Finding, Table, Text
from promptreach.report.glance import MOST_LINES, AtAGlance, View, as_html, as_text

EVIL = "<script>alert(1)</script>\x1b[2J"


class Tags(HTMLParser):
    """The tags of a fragment, and whether each that is opened is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        assert not attrs
        self.open.append(tag)
        self.seen.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def long_finding(rows: int) -> Finding:
    table = Table(title="Rows", columns=["name", "number"], rows=[[EVIL, row] for row in range(rows)], highlight=1)
    return Finding(
        check="x",
        title="X",
        evidence=Evidence.MEASURED,
        summary=f"A summary {EVIL}",
        sample="all rows",
        blocks=[Text(text="a word on it"), table],
    )


@pytest.mark.parametrize("rows", [1, 15, 16, 500])
def test_text_has_at_most_twenty_lines_and_says_what_is_left_out(rows: int) -> None:
    lines = repr(long_finding(rows)).splitlines()
    whole = 3 + 3 + rows  # summary, sample, word; a gap, title and names of columns
    assert len(lines) == min(whole, MOST_LINES)
    assert max(map(len, lines)) <= 100
    assert (lines[-1] == f"... {whole - MOST_LINES + 1:,} more lines") == (whole > MOST_LINES)
    assert "\x1b" not in repr(long_finding(rows))


def test_html_is_whole_and_runs_nothing() -> None:
    shown = long_finding(3)._repr_html_()
    tags = Tags(shown)
    assert tags.open == []
    assert tags.seen <= {"div", "p", "b", "small", "table", "thead", "tbody", "tr", "th", "td"}
    assert "&lt;script&gt;" in shown
    assert shown.count("<tr>") == 4
    assert len(re.findall(r"<td><b>", shown)) == 2  # the row to draw the eye to


def test_a_report_begins_with_its_verdict_and_compares_methods() -> None:
    report = sample_result()
    lines = repr(report).splitlines()
    assert lines[0].startswith(f"{report.verdict.value}: ")
    assert len(lines) <= MOST_LINES
    assert str(report) == repr(report)
    Tags(report._repr_html_())
    assert report.recommendation.text.split()[0] in report._repr_html_()


def test_a_check_that_did_not_run_says_why() -> None:
    finding = Finding(
        check="x", title="X", status="skipped", evidence=Evidence.UNKNOWN, summary="Nothing", reason="no room"
    )
    assert "skipped, no room" in repr(finding)
    assert "skipped, no room" in finding._repr_html_()


def test_a_view_alone() -> None:
    view = View("It is so", "from here", ["because"])
    assert as_text(view) == "It is so\nfrom here\nbecause"
    assert as_html(view) == "<div><p><b>It is so</b></p>\n<p><small>from here</small></p>\n<p>because</p>\n</div>"
    with pytest.raises(NotImplementedError):
        AtAGlance().view()
