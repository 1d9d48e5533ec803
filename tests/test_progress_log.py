"""Lines of the log and the file for other programs: what stands in them, when they come, and that neither does harm."""

import json
import logging
import time
from pathlib import Path
from typing import Any

import pytest

from promptreach import progress_log
from promptreach.progress_log import ProgressLog, Standing, duration

AT_STEP = Standing("Matched training", 4, 19, "prompt 16 tokens", 340, 975, "loss 0.431", 150.4, 245.0)


@pytest.fixture
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_log, "LINE_SECONDS", 0.05)
    monkeypatch.setattr(progress_log, "FILE_SECONDS", 0.02)


def lines_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


def test_a_line_says_stage_step_loss_and_time_left() -> None:
    told = "2 min 30 s: 4 of 19, Matched training: prompt 16 tokens, 340 of 975 steps, loss 0.431; about 4 min 5 s left"
    assert str(AT_STEP) == told
    assert AT_STEP.loss == 0.431


@pytest.mark.parametrize(
    ("standing", "told"),
    [
        (Standing("", 0, 0, "", 0, None, "", 31.0, None), "31 s: at work"),
        (Standing("", 0, 0, "heads", 2, 6, "", 31.0, None), "31 s: heads, 2 of 6 steps"),
        (Standing("limits", 17, 19, "", 0, None, "", 31.0, 5.0), "31 s: 17 of 19, limits; about 5 s left"),
        (Standing("", 0, 0, "a\nb \x1b[2J", 0, None, "loss nan", 1.0, None), "1 s: a\\nb \\x1b[2J, loss nan"),
    ],
)
def test_what_is_not_known_is_left_out(standing: Standing, told: str) -> None:
    assert str(standing) == told
    assert standing.loss is None


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-1.0, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (310.0, "5 min 10 s"), (7500.0, "2 h 5 min")],
)
def test_durations_have_two_parts(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.usefixtures("_often")
def test_lines_come_by_themselves_while_a_step_takes_long(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "progress.jsonl"
    log = ProgressLog(lambda: AT_STEP, lines=True, file=file)
    with caplog.at_level(logging.INFO, "promptreach"):
        log.start()
        until = time.monotonic() + 10
        while len(caplog.records) < 3 and time.monotonic() < until:
            time.sleep(0.01)
        log.stop("finished")
    told = {record.getMessage() for record in caplog.records}
    assert told == {str(AT_STEP)}
    found = lines_of(file)
    assert [line["state"] for line in found] == ["running"] * (len(found) - 1) + ["finished"]
    assert len(found) > 3
    assert found[0] | {"stage": "Matched training", "step": 340, "total": 975, "loss": 0.431} == found[0]
    assert found[0]["seconds_left"] == 245.0
    assert found[0]["monotonic"] <= found[-1]["monotonic"]
    assert abs(found[-1]["wall"] - time.time()) < 60


@pytest.mark.usefixtures("_often")
def test_nothing_is_told_after_the_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = ProgressLog(lambda: AT_STEP, lines=True, file=tmp_path / "progress.jsonl")
    with caplog.at_level(logging.INFO, "promptreach"):
        log.start()
        log.stop("stopped")
        count, size = len(caplog.records), (tmp_path / "progress.jsonl").stat().st_size
        time.sleep(0.15)
    assert (len(caplog.records), (tmp_path / "progress.jsonl").stat().st_size) == (count, size)


def test_a_file_that_cannot_be_written_is_told_once_and_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "progress.jsonl").mkdir()
    log = ProgressLog(lambda: AT_STEP, lines=False, file=tmp_path / "progress.jsonl")
    log.start()
    log.record()
    log.stop("finished")
    assert len(caplog.records) == 1
    assert "progress.jsonl is not written any further" in caplog.text


def test_a_new_call_begins_the_file_afresh(tmp_path: Path) -> None:
    file = tmp_path / "progress.jsonl"
    for state in ("stopped", "finished"):
        log = ProgressLog(lambda: AT_STEP, lines=False, file=file)
        log.start()
        log.stop(state)
    assert [line["state"] for line in lines_of(file)] == ["finished"]
