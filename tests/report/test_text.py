"""The terminal: everything in order, within its width, and nothing that commands it."""

import io

import pytest
from rich.console import Console

from helpers.sample_report import hostile_result, sample_result, summary_of
from promptreach.certificate import Evidence
from promptreach.report.findings import Finding, Table
from promptreach.report.text import print_finding, print_summary


def test_summary_says_everything_in_order() -> None:
    text = summary_of(sample_result(), 200)
    wanted = [
        "FORM: No number of virtual tokens closes the gap to LoRA here: use LoRA with rank 8. [MEASURED]",
        "Held-out accuracy and cost [MEASURED]",
        ">  LoRA",
        "bytes per request: key-value cache that the method adds",
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
    commands = [line for line in summary_of(sample_result(), 500).splitlines() if line.startswith("promptreach ")]
    lines = [line for line in summary_of(sample_result(), width).splitlines() if line not in commands]
    assert max(map(len, lines)) <= width


def test_summary_names_the_columns_that_do_not_fit() -> None:
    assert "too narrow for: spread, parameters, bytes per request, ms per step." in " ".join(
        summary_of(sample_result(), 50).split()
    )
    assert "too narrow" not in summary_of(sample_result(), 120)


def test_text_that_does_not_fit_beside_the_rest_is_broken_where_enough_room_is_left() -> None:
    path = "/a/long/way/" + "b" * 90
    table = Table(title="What it is", columns=["", "as it is"], rows=[["kind", "prompt"], ["base", path]])
    finding = Finding(check="x", title="X", status="done", evidence=Evidence.MEASURED, summary="So.", blocks=[table])

    def printed(width: int) -> str:
        stream = io.StringIO()
        print_finding(finding, Console(file=stream, width=width))
        return stream.getvalue()

    assert path in printed(80).replace("\n", "").replace(" ", "")
    assert [line.split()[0] for line in printed(80).splitlines()[-2:]] == ["base", "b" * 31]
    assert "too narrow" not in printed(80)
    assert max(map(len, printed(80).splitlines())) <= 80
    assert "too narrow for: as it is" in " ".join(printed(30).split())


def test_summary_has_no_colour_off_a_terminal_and_colour_on_one(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for name in ("NO_COLOR", "FORCE_COLOR", "CI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    assert "\x1b" not in summary_of(sample_result())
    screen = Terminal()
    print_summary(sample_result(), Console(file=screen, width=80))
    assert "\x1b[1;31m" in screen.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    screen = Terminal()
    print_summary(sample_result(), Console(file=screen, width=80))
    assert "31m" not in screen.getvalue()


def test_data_cannot_command_the_terminal() -> None:
    result = sample_result().model_copy(update={"headline": "\x1b]0;owned\x07 \x9b31m \u202e [red]x[/red] :smile: \r"})
    text = summary_of(result)
    assert not set(text) & {"\x1b", "\x07", "\x9b", "\u202e", "\r"}
    assert "\\x1b]0;owned\\x07 \\x9b31m \\u202e [red]x[/red] :smile: \\r" in text


def test_summary_reaches_an_ascii_terminal() -> None:
    raw = io.BytesIO()
    with io.TextIOWrapper(raw, encoding="ascii") as stream:
        print_summary(hostile_result(), Console(file=stream, width=80))
        stream.flush()
        assert b"FORM: No number" in raw.getvalue()


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


def test_nobody_reading_is_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    """rich would end the process with 1, which says that what was trained does not fit."""

    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr("sys.stdout", Closed())
    with pytest.raises(BrokenPipeError):
        print_summary(sample_result())
