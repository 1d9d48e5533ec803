"""The folder of an audit: what counts as begun, and what an earlier call left there."""

from pathlib import Path

import pytest

from helpers.audit_cases import rows
from helpers.models import tiny_model
from promptreach import audit
from promptreach.audit.folder import REPORT, RUNS_FOLDER, finished_runs, nothing_to_resume, output_folder
from promptreach.errors import InputError
from promptreach.locks import LOCK
from promptreach.progress_log import PROGRESS_FILE


@pytest.mark.parametrize("left", [REPORT, RUNS_FOLDER, LOCK, PROGRESS_FILE])
def test_what_an_audit_leaves_can_be_resumed(left: str, tmp_path: Path) -> None:
    assert len(nothing_to_resume(tmp_path)) == 1
    (tmp_path / left).mkdir()
    assert nothing_to_resume(tmp_path) == []


def test_runs_are_counted_once_they_are_finished(tmp_path: Path) -> None:
    assert finished_runs(None) == finished_runs(tmp_path) == 0
    for name in ("a", "b"):
        (tmp_path / RUNS_FOLDER / name).mkdir(parents=True)
    (tmp_path / RUNS_FOLDER / "a" / "run.json").write_text("{}")
    assert finished_runs(tmp_path) == 1


def test_a_folder_with_runs_or_a_report_is_kept_unless_it_is_resumed(tmp_path: Path) -> None:
    (tmp_path / RUNS_FOLDER).mkdir()
    with pytest.raises(InputError, match="--resume"):
        output_folder(tmp_path, resume=False)
    assert output_folder(tmp_path, resume=True) == tmp_path
    (tmp_path / REPORT).write_text("{}")
    with pytest.raises(InputError, match=r"report\.json of a finished run"):
        audit(tiny_model("bert"), rows(40), out=tmp_path)
