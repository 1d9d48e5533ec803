"""The report's page while its audit is under way: the findings so far, whole at every moment.

The page is replaced as parts finish, and by the report at the end. report.json comes with the report alone: where it
stands, the audit is finished.
"""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from promptreach.audit.check import Check
from promptreach.audit.context import AuditContext
from promptreach.audit.estimate import Opening
from promptreach.audit.plan import READING
from promptreach.errors import OutputError
from promptreach.files import write_atomically
from promptreach.progress import Progress
from promptreach.report.findings import Finding
from promptreach.report.html import render_page
from promptreach.report.result import environment

PAGE = "report.html"
_RELOAD_SECONDS = 10
_READING = "Reading the frozen model"


class LivePage:
    """The page of an audit under way, and its progress from part to part.

    Args:
        folder: where it goes; None writes none.
        subject: what is audited, in one line.
        progress: told of every part.
        checks: the parts to come.
        opening: what it is expected to take.

    Use as a context manager around all that the audit does.
    """

    def __init__(
        self, folder: Path | None, subject: str, progress: Progress, checks: Sequence[Check], opening: Opening
    ) -> None:
        self._folder = folder
        self._subject = subject
        self._progress = progress
        self._checks = checks
        self._opening = opening
        self._findings: list[Finding] = []
        self._environment = environment()

    def __enter__(self) -> "LivePage":
        """Say what the audit will take; its first part, before all checks, reads the rows with the frozen model.

        Raises:
            OutputError: when the page cannot be written.
        """
        titles = {READING: _READING} | {check.name: check.title for check in self._checks}
        self._progress.tell(self._opening.text)
        if self._opening.plan is not None:
            self._progress.expect(self._opening.plan.time_left(titles))
        self._progress.enter(_READING, 1, len(titles))
        self._write("Under way", _READING, _RELOAD_SECONDS)
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        """Where the audit ends before its end, the page says so, if it still can, and how to go on."""
        if kind is not None:
            with suppress(OutputError):
                self._write("Stopped" if issubclass(kind, KeyboardInterrupt) else "Ended by an error", "", 0)

    def measured(self, context: AuditContext, needed: Sequence[str]) -> list[Finding]:
        """The finding of every check, each on the page as soon as it is there.

        Args:
            context: of the audit.
            needed: the checks without which there is nothing to judge.

        Raises:
            OutputError: when the page cannot be written; and whatever a check raises.
        """
        for number, check in enumerate(self._checks, start=2):
            self._progress.enter(check.title, number, 1 + len(self._checks))
            self._write("Under way", check.title, _RELOAD_SECONDS)
            finding = check.run(context, check.name in needed)
            self._findings.append(finding)
            if check.tell:
                self._progress.tell(f"{check.title}: {finding.summary} [{finding.evidence.value}]")
        return self._findings

    def _write(self, state: str, doing: str, reload: int) -> None:
        if self._folder is None:
            return
        done = f"{len(self._findings)} of {len(self._checks)} parts are done"
        lead = f"There is no verdict yet: {done}"
        lead += f", and “{doing}” is under way. " if doing else ". Finished runs are kept; --resume goes on from here. "
        lead += f"{self._opening.text} This page is replaced as parts finish, and by the report at the end."
        title = f"{state}: the audit of {self._subject}"
        page = render_page(title, lead, self._findings, self._environment, reload_seconds=reload)
        write_atomically(self._folder / PAGE, page.encode("utf-8", "backslashreplace"))
