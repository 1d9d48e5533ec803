"""The audit's outcome: a report that can be written to a folder."""

from pathlib import Path

from promptreach.report.html import write_report
from promptreach.report.result import Report


class AuditResult(Report):
    """An audit's outcome. `write` puts report.html and report.json into a folder, without the recommended adapter."""

    def write(self, folder: str | Path) -> Path:
        """Write report.html and report.json into `folder` and return the page's path.

        Each file is written to a temporary name and renamed, so a full disk or Ctrl-C leaves no half report.

        Raises:
            OutputError: when the folder cannot be written.
        """
        return write_report(self, Path(folder))
