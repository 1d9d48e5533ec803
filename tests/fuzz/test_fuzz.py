"""Every format with something wrong in it: named or read, never a traceback, in time, and nothing written elsewhere.

A part of what `benchmarks/fuzz.py` does for hours; what that finds is kept in ``seeds`` and tried here every time.
PROMPTREACH_FUZZ_SECONDS sets how long this one goes on.
"""

import os
import time
from itertools import count
from pathlib import Path

import pytest

from helpers.fuzzing import TARGETS, Fuzzer, from_seed

SECONDS = float(os.environ.get("PROMPTREACH_FUZZ_SECONDS", "12")) / len(TARGETS)
"""Of each format."""
MOST = 400 if "PROMPTREACH_FUZZ_SECONDS" not in os.environ else 10**9
SEEDS = sorted((Path(__file__).parent / "seeds").glob("*.json"))


@pytest.fixture(scope="module")
def fuzzer(tmp_path_factory: pytest.TempPathFactory) -> Fuzzer:
    return Fuzzer(tmp_path_factory.mktemp("fuzz"))


@pytest.mark.parametrize("name", TARGETS)
def test_whatever_is_wrong_is_named(name: str, fuzzer: Fuzzer) -> None:
    fuzzer.sample(name)
    ends, deadline = [], time.monotonic() + SECONDS
    for number in count():
        outcome = fuzzer.one(name, number)
        assert not outcome.is_wrong, (number, outcome.file, outcome.end, outcome.content[:2000])
        ends.append(outcome.end)
        if number >= MOST or (number >= 8 and time.monotonic() > deadline):
            break
    assert "named" in ends or name in ("run", "stored")  # what is kept is trained again, not refused


@pytest.mark.parametrize("name", TARGETS)
def test_a_whole_sample_is_read(name: str, fuzzer: Fuzzer) -> None:
    for file, content in fuzzer.sample(name).items():
        assert fuzzer.given(name, file, content).end == "read"


@pytest.mark.parametrize("path", SEEDS, ids=lambda path: path.stem)
def test_what_was_found_once_stays_mended(path: Path, fuzzer: Fuzzer) -> None:
    seed = from_seed(path)
    outcome = fuzzer.given(seed["target"], seed["file"], seed["content"])
    assert not outcome.is_wrong, (outcome.end, seed["was"])


def test_a_wrong_end_is_seen(fuzzer: Fuzzer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("helpers.fuzzing.read_report", lambda path: {}["x"])
    assert fuzzer.one("report", 0).is_wrong
    monkeypatch.setattr("helpers.fuzzing.read_report", lambda path: (fuzzer.folder / "leak").write_text(""))
    assert fuzzer.one("report", 0).end == "something was written outside"
