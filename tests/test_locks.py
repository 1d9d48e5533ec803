"""One writer a folder: others are refused or wait, and a lock that a killed owner left holds nobody."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from promptreach.errors import OutputError
from promptreach.locks import LOCK, folder_lock, is_locked, owner_of

HOLD = """
import sys, time
from promptreach.locks import folder_lock
with folder_lock(sys.argv[1], "an audit", sys.argv[2]) as waited:
    print("held", waited, flush=True)
    sys.stdin.read()
"""


def holder(folder: Path, key: str) -> "subprocess.Popen[str]":
    """A process that holds the lock until its standard input ends."""
    call = [sys.executable, "-c", HOLD, str(folder), key]
    process = subprocess.Popen(call, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("held")
    return process


def test_a_folder_is_free_again_afterwards(tmp_path: Path) -> None:
    for _ in range(2):
        with folder_lock(tmp_path, "work", "a") as waited:
            assert not waited
            assert is_locked(tmp_path)
            assert owner_of(tmp_path).process == os.getpid()  # type: ignore[union-attr]
        assert not is_locked(tmp_path)
        assert list(tmp_path.iterdir()) == []


def test_another_call_is_refused_at_once_and_the_same_waits(tmp_path: Path) -> None:
    process = holder(tmp_path, "a")
    began = time.monotonic()
    told = f"an audit of another call is under way .process {process.pid} on"
    with pytest.raises(OutputError, match=told), folder_lock(tmp_path, "work", "b"):
        raise AssertionError
    assert time.monotonic() - began < 1
    threading.Timer(0.3, lambda: process.communicate("")).start()
    with folder_lock(tmp_path, "work", "a") as waited:
        assert waited


def test_a_killed_owner_holds_nothing_and_left_its_name(tmp_path: Path) -> None:
    process = holder(tmp_path, "a")
    assert is_locked(tmp_path)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (tmp_path / LOCK).exists()
    assert not is_locked(tmp_path)
    with folder_lock(tmp_path, "work", "b") as waited:
        assert not waited


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"process": 1}', "[" * 100_000, "\0"])
def test_a_damaged_lock_stops_nobody(content: str, tmp_path: Path) -> None:
    (tmp_path / LOCK).write_text(content)
    assert owner_of(tmp_path) is None
    assert not is_locked(tmp_path)
    with folder_lock(tmp_path, "work", "a"):
        pass


def test_without_the_systems_locks_the_process_and_its_start_decide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("promptreach.locks._fcntl", None)
    with folder_lock(tmp_path, "work", "a"), pytest.raises(OutputError), folder_lock(tmp_path, "work", "b"):
        raise AssertionError
    with folder_lock(tmp_path, "work", "a"):
        told = json.loads((tmp_path / LOCK).read_text())
    (tmp_path / LOCK).write_text(json.dumps(told | {"began": "0"}))  # the number went to another process since
    with folder_lock(tmp_path, "work", "b"):
        pass


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="does not exist"), folder_lock(tmp_path / "none", "work", "a"):
        raise AssertionError
