"""The boundary of every command: verdicts end with 0, 1 and 3, what is wrong with 2, a fault of ours with 70."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from helpers.command_line import run, saved_model
from promptreach.errors import Fault, InputError, MemoryShortError

LIMITS = "promptreach.commands.limits.limits_of_model"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    saved_model(folder, "bert")
    return folder


class Panic(BaseException):
    """As an extension raises it that lost its mind."""


@pytest.mark.parametrize("error", [RuntimeError("the\nroof"), KeyError("x"), AssertionError(), Panic("\x1b[2J")])
def test_a_fault_of_ours_is_one_line_that_says_where_the_details_are(
    error: BaseException, model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(*args: Any) -> Any:
        raise error

    monkeypatch.setattr(LIMITS, broken)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    status, out, err = run("limits", model)
    assert (status, out, err.count("\n")) == (70, "", 1)
    assert "\x1b" not in err
    details = Path(re.search(r"the details are in (\S+)", err)[1])  # type: ignore[index]
    assert "Traceback" in details.read_text()
    assert type(error).__name__ in err


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "out of memory while running limits"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 123 bytes."), "123 bytes"),
        (MemoryShortError("no room\nat all"), r"no room\nat all"),
        (PermissionError(13, "Permission denied", "/a/b"), "/a/b: Permission denied"),
        (RecursionError(), "nested too deeply"),
        (InputError(Fault("a\x1b]0;b\x07", "\x9b31m", "c\nd")), r"a\x1b]0;b\x07: \x9b31m; expected c\nd"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_fault_of_ours_ends_with_2_and_one_line(
    error: Exception, said: str, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any) -> Any:
        raise error

    monkeypatch.setattr(LIMITS, broken)
    status, out, err = run("limits", model)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert said in err


@pytest.mark.parametrize("command", ["limits", "attend", "capacity", "audit", "shrink", "compile"])
@pytest.mark.parametrize("seed", [-1, 2**32, 2**64, "x"])
def test_a_seed_that_no_generator_takes_is_refused(command: str, seed: object) -> None:
    status, _, err = run(command, *["x"] * (1 + (command == "audit")), f"--seed={seed}")
    assert status == 2
    assert "--seed" in err


SHOW = """
import sys
from promptreach.cli._command import bounded
from promptreach.terminal import write_json

def show():
    write_json('{"a": "\\u00e9\\u2013"}\\n' * COUNT)

bounded(show)()
"""


BUFFERED = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}


def test_an_encoding_that_lacks_letters_carries_the_json() -> None:
    ascii_only = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}
    call = [sys.executable, "-c", SHOW.replace("COUNT", "9000")]
    done = subprocess.run(call, env=ascii_only, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[0]) == {"a": "é–"}


@pytest.mark.parametrize("count", [1, 9000])  # what a buffer holds until the end, and what it does not
def test_a_closed_pipe_is_no_traceback(count: int) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    call = [sys.executable, "-c", SHOW.replace("COUNT", str(count))]
    done = subprocess.run(call, stdout=writer, stderr=subprocess.PIPE, timeout=120, env=BUFFERED)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize(
    "arguments", [["--help"], ["audit", "--help"], ["--version"], ["claims"], ["claims", "--json"]]
)
def test_nobody_reading_is_no_verdict_for_any_words(arguments: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    call = [sys.executable, "-m", "promptreach", *arguments]
    done = subprocess.run(call, stdout=writer, stderr=subprocess.PIPE, timeout=300, env=BUFFERED)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_many_equal_faults_are_one_line(tmp_path: Path) -> None:
    rows = "".join("the cat,\n" for _ in range(40))
    (tmp_path / "rows.csv").write_text(f"text,label\n{rows}", encoding="utf-8")
    status, _, err = run("audit", tmp_path, tmp_path / "rows.csv", "--out", tmp_path / "out")
    assert status == 2
    assert len([line for line in err.splitlines() if "label" in line]) == 1
