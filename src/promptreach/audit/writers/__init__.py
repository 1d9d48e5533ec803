"""Writers show a result: a page for people, its JSON twin for programs, a summary for the terminal."""

from pathlib import Path

from promptreach.audit.result import AuditResult
from promptreach.audit.writers.html import render_html as render_html
from promptreach.audit.writers.html import render_page as render_page
from promptreach.audit.writers.json_twin import read_finding as read_finding
from promptreach.audit.writers.json_twin import read_report as read_report
from promptreach.audit.writers.json_twin import render_finding as render_finding
from promptreach.audit.writers.json_twin import render_json as render_json
from promptreach.audit.writers.json_twin import schema as schema
from promptreach.audit.writers.json_twin import validated as validated
from promptreach.audit.writers.picture import picture_svg as picture_svg
from promptreach.audit.writers.text import print_finding as print_finding
from promptreach.audit.writers.text import print_summary as print_summary
from promptreach.files import check_output, write_atomically

__all__ = [
    "picture_svg",
    "print_finding",
    "print_summary",
    "read_finding",
    "read_report",
    "render_finding",
    "render_html",
    "render_json",
    "render_page",
    "schema",
    "validated",
    "write_report",
]


def write_report(result: AuditResult, folder: Path) -> Path:
    """Write report.html and report.json into `folder`, made where needed, and return the page's path.

    report.json is written last: where it stands, the report is complete.

    Raises:
        OutputError: when the folder cannot be written; a file that stood there before is then still whole.
    """
    page, twin = render_html(result), render_json(result)
    check_output(folder, resume=True)
    for name, text in (("report.html", page), ("report.json", twin)):
        # Text that is not valid Unicode (half of a surrogate pair, from a damaged dataset) is shown as an escape.
        write_atomically(folder / name, text.encode("utf-8", "backslashreplace"))
    return folder / "report.html"
