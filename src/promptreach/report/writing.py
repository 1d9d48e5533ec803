"""A report written to a folder: its page and its JSON twin."""

from pathlib import Path

from promptreach.files import check_output, write_atomically
from promptreach.report.html import render_html
from promptreach.report.json import render_json
from promptreach.report.result import Report


def write_report(result: Report, folder: Path) -> Path:
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
