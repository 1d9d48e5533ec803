"""The page: one self-contained HTML file that reads on a phone, in the dark, on paper and without a network.

Everything that came from a model or a dataset is escaped by the template engine. Should something slip through, the
page's content security policy runs only the one script and the one style sheet whose hashes it names.
"""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup

from promptreach.files import check_output, write_atomically
from promptreach.report import figures, formatting, wording
from promptreach.report.findings import Code, Finding
from promptreach.report.json import render_json
from promptreach.report.result import Report
from promptreach.report.verdict import VERDICT_WORDS

LONG_TABLE = 12
"""A table with more rows is folded away."""
LONG_CODE = 24
"""Code with more lines is folded away."""


def render_html(result: Report) -> str:
    """`result` as a complete HTML page that refers to nothing outside itself."""
    return _rendered(
        "report.html.j2",
        result=result,
        subject=wording.subject(result),
        words=VERDICT_WORDS[result.verdict],
        settings=wording.settings(result.recommendation),
        peft_config=_peft_config(result),
        methods=wording.method_table(result),
        section_of={finding.check: f"finding-{index}" for index, finding in enumerate(result.findings)},
        not_asked=[finding for finding in result.findings if finding.status == "skipped" and not finding.blocks],
    )


def render_page(
    title: str, lead: str, findings: Sequence[Finding], environment: Mapping[str, object], *, reload_seconds: int = 0
) -> str:
    """Findings without a verdict, as a page of the same kind: a compiled function, a claim that was run, an audit under
    way, whose page loads itself anew every `reload_seconds` (0: never)."""
    return _rendered(
        "page.html.j2", title=title, lead=lead, findings=findings, environment=environment, reload=reload_seconds
    )


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


def _rendered(template: str, **context: Any) -> str:
    style, script = packaged("figures.css") + packaged("report.css"), packaged("report.js")
    loader = DictLoader({name: packaged(name) for name in (template, "blocks.html.j2")})
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(
        number=formatting.format_number,
        value=formatting.format_value,
        bound=formatting.format_bound,
        seconds=formatting.format_seconds,
    )
    return environment.get_template(template).render(
        **context,
        meanings=wording.EVIDENCE_MEANING,
        recheck_words=wording.recheck_words,
        certificate_lines=wording.certificate_lines,
        numeric_columns=formatting.numeric_columns,
        format_rows=formatting.format_rows,
        long_table=LONG_TABLE,
        long_code=LONG_CODE,
        figures=figures,
        style=Markup(style),
        script=Markup(script),
        policy=f"default-src 'none'; style-src {_source(style)}; script-src {_source(script)}; img-src data:; "
        "base-uri 'none'; form-action 'none'",
    )


def _peft_config(result: Report) -> Code | None:
    config = result.recommendation.peft_config
    if config is None:
        return None
    return Code(title="adapter_config.json for PEFT", language="json", text=json.dumps(config, indent=2))


def packaged(name: str) -> str:
    """The text of a file beside this module."""
    return resources.files(__package__).joinpath(name).read_text("utf-8")


def _source(content: str) -> str:
    """`content` as a source of a content security policy. The template puts nothing between it and its tags."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
