"""The folder of one audit: its own while it is under way, and refused where it holds something else."""

import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from promptreach.errors import Fault, FormatError, InputError
from promptreach.files import check_output, remove_partials
from promptreach.locks import LOCK, folder_lock, is_locked
from promptreach.progress_log import PROGRESS_FILE
from promptreach.report.json import read_report
from promptreach.report.result import Report
from promptreach.terminal import one_line

RUNS_FOLDER = "runs"
REPORT = "report.json"
ADAPTER_FOLDER, HEAD_FOLDER = "adapter", "head"
"""Folders of what is recommended: an adapter, or the head where that is all it takes."""
REPORT_DIGEST = "report.sha256"
"""The digest of the report, in the folder of the runs: it is there before the report is."""
Result = TypeVar("Result", bound=Report)
_LOG = logging.getLogger(__name__)


def nothing_to_resume(folder: str | Path) -> list[Fault]:
    """The refusal of a folder in which no audit has begun, by somebody who wants to go on with one."""
    folder = Path(folder)
    if any((folder / name).exists() for name in (REPORT, RUNS_FOLDER, LOCK, PROGRESS_FILE)):
        return []
    seen, expected = "no audit that was stopped or finished", "the folder of one"
    return [
        Fault(str(folder), seen, expected, "Leave --resume away to begin one there, or name its folder with --out.")
    ]


def finished_runs(folder: Path | None) -> int:
    """How many training runs an earlier call has left there."""
    return 0 if folder is None else sum(1 for _ in (folder / RUNS_FOLDER).glob("*/run.json"))


@contextmanager
def claimed(folder: Path | None, key: str, resume: bool, kind: type[Result]) -> Iterator[Result | None]:
    """The folder for this call alone, for a `with` block; yields the report that stands there if it answers the call.

    Another audit of the same call is waited for, and what it has done is this one's as well.
    """
    if folder is None:
        yield None
        return
    with folder_lock(folder, "an audit", key) as waited:
        output_folder(folder, resume or waited)  # what another call may have left there since
        remove_partials(folder)
        yield _finished(folder, key, kind) if (folder / REPORT).exists() else None


def output_folder(folder: Path, resume: bool) -> Path:
    """The folder, once it is known that results can go there; whose they may be is open while another audit is on."""
    checked = check_output(folder, resume=resume or is_locked(folder))
    if is_locked(folder):
        return checked
    if not resume and (folder / RUNS_FOLDER).exists():
        raise InputError(
            Fault(
                str(folder),
                "training runs of an audit that did not finish",
                "an empty or new folder",
                "Continue that audit with --resume, or choose another folder.",
            )
        )
    return checked


def _finished(folder: Path, key: str, kind: type[Result]) -> Result | None:
    """The report that stands in `folder`, if it answers the same call; None, and a word, if it is damaged."""
    known = folder / RUNS_FOLDER / REPORT_DIGEST
    try:
        report = read_report(folder / REPORT, kind)
        found = hashlib.sha256((folder / REPORT).read_bytes()).hexdigest()
        if known.is_file() and known.read_text(errors="replace") != found:
            raise InputError(Fault(str(folder / REPORT), "another SHA-256", "that of the report that was written"))
    except FormatError:
        raise
    except InputError as error:
        reason = one_line(str(error.faults[0]))
        _LOG.warning("%s is not as it was written and is made again from the finished runs (%s)", REPORT, reason)
        return None
    if report.settings.get("key") != key:
        raise InputError(
            Fault(
                str(folder),
                "the finished report of another call",
                "the same model, data and settings",
                "Choose another folder.",
            )
        )
    return report
