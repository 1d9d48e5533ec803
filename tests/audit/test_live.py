"""The page of an audit under way: whole at every moment, stopped at every stage, and the same end after it."""

import errno
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import promptreach
from helpers.audit_cases import rows, save_model, strip
from promptreach import cli, files
from promptreach.audit import run as run_module
from promptreach.audit.checks import CHECKS
from promptreach.audit.live import PAGE
from promptreach.audit.settings import BUDGETS
from promptreach.errors import OutputError
from promptreach.progress_log import PROGRESS_FILE
from promptreach.tuning import Limits

STAGES = ("reading", "data", "parts", "bare_model", "first_look", "training", "initialisation", "estimate")


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few checks and short runs."""
    limits = Limits(48, 24, 24, 16)
    monkeypatch.setattr(run_module, "CHECKS", tuple(check for check in CHECKS if check.name in STAGES))
    monkeypatch.setitem(BUDGETS, "quick", BUDGETS["quick"].__class__("quick", 0, limits, (2,), 2, 4, 8, 4))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    save_model(folder, "bert")
    return folder


def audit(model: Path, out: Path, **options: Any) -> Any:
    return promptreach.audit(model, rows(80), budget="quick", num_layers=1, out=out, **options)


def report_of(folder: Path) -> Any:
    return strip(json.loads((folder / "report.json").read_text().replace(str(folder), "OUT")))


def interrupted(*args: Any, **options: Any) -> Any:
    raise KeyboardInterrupt


def last_line(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / PROGRESS_FILE).read_text().splitlines()[-1])
    return found


def test_ctrl_c_at_every_stage_leaves_a_readable_page_and_resumes_to_the_same_end(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, out, checks = tmp_path / "whole", tmp_path / "out", run_module.CHECKS
    audit(model, whole)
    assert [check.name for check in checks] == list(STAGES[1:])
    for number, stage in enumerate(STAGES):
        with monkeypatch.context() as patch:
            if stage == "reading":
                patch.setattr(run_module, "prepared", interrupted)
            broken = tuple(replace(one, measure=interrupted) if one.name == stage else one for one in checks)
            patch.setattr(run_module, "CHECKS", broken)
            with pytest.raises(KeyboardInterrupt):
                audit(model, out, resume=True)
        page = (out / PAGE).read_text()
        assert "Stopped: the audit of" in page
        assert f"{max(0, number - 1)} of {len(checks)} parts are done" in page
        assert page.endswith("</html>\n") or page.endswith("</html>")
        assert 'http-equiv="refresh"' not in page
        assert ("is likely" in page) == (number > STAGES.index("first_look"))
        assert not (out / "report.json").exists()
        assert last_line(out)["state"] == "stopped"
    audit(model, out, resume=True)
    assert report_of(out) == report_of(whole)
    assert "Stopped" not in (out / PAGE).read_text()
    assert last_line(out) | {"state": "finished"} == last_line(out)


def test_the_page_tells_what_is_known_while_training_goes_on(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def looking(measure: Callable[..., Any]) -> Callable[..., Any]:
        def measured(context: Any) -> Any:
            seen.append((tmp_path / "out" / PAGE).read_text())
            return measure(context)

        return measured

    checks = tuple(replace(one, measure=looking(one.measure)) for one in run_module.CHECKS)
    monkeypatch.setattr(run_module, "CHECKS", checks)
    audit(model, tmp_path / "out")
    in_training = seen[STAGES.index("training") - 1]
    for part in ("Under way: the audit of", "First look", "is likely", "Matched training", 'http-equiv="refresh"'):
        assert part in in_training
    assert "This takes about" in seen[0]
    assert "Under way" not in (tmp_path / "out" / PAGE).read_text()


@pytest.mark.parametrize("stage", ["reading", "first_look", "training"])
def test_a_disk_that_fills_is_named_and_leaves_whole_files(
    stage: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, real = tmp_path / "out", files.os.fsync
    left = STAGES.index(stage)

    def full(descriptor: int) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", full)
        with pytest.raises(OutputError, match="the disk is full"):
            audit(model, out)
    page = (out / PAGE).read_text() if (out / PAGE).exists() else "</html>"
    assert page.rstrip().endswith("</html>")
    assert not [*out.glob("**/*.partial"), *out.glob("report.json")]
    assert audit(model, out, resume=True).verdict
    assert (out / "report.json").exists()


def test_without_a_terminal_the_log_tells_the_cost_at_once_and_then_the_first_look(model: Path, tmp_path: Path) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text("\n".join(map(json.dumps, rows(80))))
    call = ["audit", str(model), str(data), "--budget", "quick", "--out", str(tmp_path / "out")]
    told = CliRunner().invoke(cli.app, call).stderr
    lines = [line for line in told.splitlines() if line.startswith("promptreach: ")]
    assert lines[0].startswith("promptreach: This takes about ")
    assert lines[1].startswith("promptreach: First look: ")
    quiet = CliRunner().invoke(cli.app, [*call[:-1], str(tmp_path / "quiet"), "--quiet"])
    assert quiet.stderr == ""
    assert (tmp_path / "quiet" / PROGRESS_FILE).exists()
