"""Several audits, one folder: the same call joins, another is refused, and what was damaged is made again and said."""

import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import promptreach
from helpers.audit_cases import rows, save_model, strip
from helpers.command_line import run
from promptreach.audit import run as run_module
from promptreach.audit.checks import CHECKS
from promptreach.audit.settings import BUDGETS
from promptreach.errors import OutputError
from promptreach.locks import LOCK, folder_lock
from promptreach.tuning import Limits


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = Limits(48, 24, 24, 16)
    monkeypatch.setattr(run_module, "CHECKS", [check for check in CHECKS if check.name in run_module.NEEDED])
    monkeypatch.setitem(BUDGETS, "quick", BUDGETS["quick"].__class__("quick", 0, limits, (2, 4), 2, 4, 8, 4))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    save_model(folder, "bert")
    return folder


def audit(model: Path, out: Path, **options: Any) -> Any:
    return promptreach.audit(model, rows(80), budget="quick", num_layers=1, out=out, **options)


def test_the_same_call_joins_and_another_is_refused(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    out, results = tmp_path / "out", []
    first = threading.Thread(target=lambda: results.append(audit(model, out)))
    first.start()
    while not (out / LOCK).exists() or not (out / "runs").exists():
        assert first.is_alive()
        time.sleep(0.005)
    with pytest.raises(OutputError, match="an audit of another call is under way"):
        audit(model, out, seed=1)
    joined = audit(model, out)
    first.join()
    assert results == [joined]
    assert not (out / LOCK).exists()

    written = (out / "report.json").read_text()
    for damage in (written[:-20], written.replace("0", "1", 1), ""):
        (out / "report.json").write_text(damage)
        caplog.clear()
        again = audit(model, out, resume=True)
        assert "report.json is not as it was written and is made again" in caplog.text
        assert strip(again.model_dump(mode="json")) == strip(joined.model_dump(mode="json"))


@pytest.mark.parametrize("content", [None, "new", "other"])
def test_resume_where_nothing_is_to_resume_is_refused(content: str | None, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    if content is not None:
        out.mkdir()
    if content == "other":
        (out / "notes.txt").write_text("mine")
    rows = tmp_path / "rows.csv"
    rows.write_text("text,label\na,x\nb,y\n")
    status, _, err = run("audit", model, rows, "--out", out, "--resume")
    assert status == 2
    assert "Leave --resume away" in err


def test_an_audit_that_was_killed_before_its_first_run_can_be_resumed(tmp_path: Path) -> None:
    code = (
        "import os, sys\nfrom promptreach.locks import folder_lock\n"
        "with folder_lock(sys.argv[1], 'an audit', 'x'):\n    os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    status, _, err = run("audit", "nowhere/model.gguf", "nothing.csv", "--out", tmp_path, "--resume")
    assert status == 2
    assert "Leave --resume away" not in err
    with folder_lock(tmp_path, "an audit", "y") as waited:
        assert not waited


def test_a_path_that_no_text_names_works_and_control_characters_stay_escapes(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "bad\udcff\x1b[2J"
    result = audit(model, out)
    assert promptreach.audit(model, rows(80), budget="quick", num_layers=1, out=out, resume=True) == result
    assert b"\x1b" not in (out / "report.json").read_bytes()
