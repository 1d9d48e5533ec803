"""Work that never ends, or takes all memory, or dies: it ends with an error here, and its caller goes on."""

import os
import time
from typing import Any

import pytest

from promptreach.limited import limited

MEMORY = 2**28


def test_what_ends_in_time_is_returned() -> None:
    assert limited(lambda: [1, ["ä", None]], 5.0, MEMORY) == [1, ["ä", None]]


def test_a_long_answer_comes_whole() -> None:
    assert limited(lambda: "x" * 3_000_000, 5.0, MEMORY) == "x" * 3_000_000


def test_nothing_that_it_does_changes_the_caller() -> None:
    here: list[int] = []
    assert limited(lambda: here.append(1), 5.0, MEMORY) is None
    assert here == []


def forever() -> Any:
    while True:
        pass


def test_a_loop_without_an_end_is_ended() -> None:
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        limited(forever, 1.0, MEMORY)
    assert time.monotonic() - began < 60


def test_what_only_sleeps_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("promptreach.limited._ASLEEP", 1)
    with pytest.raises(TimeoutError):
        limited(lambda: time.sleep(600), 0.5, MEMORY)


@pytest.mark.parametrize("work", [lambda: "x" * 2**32, lambda: os._exit(3)], ids=["all memory", "a sudden end"])
def test_a_shortage_is_told(work: Any) -> None:
    with pytest.raises(MemoryError):
        limited(work, 5.0, MEMORY)


def test_what_it_raises_is_told_in_words() -> None:
    with pytest.raises(ValueError, match="KeyError: 'x'"):
        limited(lambda: {}["x"], 5.0, MEMORY)


def test_no_child_is_left_behind() -> None:
    with pytest.raises(TimeoutError):
        limited(forever, 1.0, MEMORY)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
