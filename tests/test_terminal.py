"""Text on its way out: nothing that a terminal obeys, whatever the encoding, and JSON that says the same."""

import io
import json
import sys

import pytest

from promptreach.terminal import one_line, printable, printable_json, say, write_json

CODES = [*map(chr, range(9)), "\t", "\r", "\x1b[2J", "\x1b]0;title\x07", "\x9b31m", "\x7f", "‮", "⁦", "‏"]


@pytest.mark.parametrize("code", CODES, ids=ascii)
def test_what_a_terminal_obeys_stands_as_an_escape(code: str) -> None:
    shown = printable(f"a{code}b\nc")
    assert code[0] not in shown
    assert shown.startswith("a\\")
    assert shown.endswith("b\nc") or "b\nc" in shown
    assert "\n" not in one_line(f"a{code}b\nc")


@pytest.mark.parametrize("text", ["é–“x”", "bad\udcff", "日本", "plain"])
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8", None])
def test_every_encoding_can_carry_it(text: str, encoding: str | None) -> None:
    printable(text, encoding).encode(encoding or "utf-8")


@pytest.mark.parametrize("text", ["é–", "\x9b31m\x85", "bad\udcff", "‮abc", "\x1b[2J", "日本\n"])
@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_json_is_written_to_any_stream_and_says_the_same(text: str, encoding: str) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding)
    write_json(json.dumps({"a": text}, ensure_ascii=False), stream)
    stream.flush()
    written = raw.getvalue().decode(encoding)
    assert json.loads(written) == {"a": text}
    assert printable(written) == written


def test_json_without_such_characters_stays_as_it_is() -> None:
    assert printable_json('{"a": "é日\\n"}') == '{"a": "é日\\n"}'


def test_lines_are_said_to_people_and_errors_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    say("fine\x1b[2J")
    say("wrong", error=True)
    assert capsys.readouterr() == ("fine\\x1b[2J\n", "wrong\n")
    assert sys.stdout.encoding
