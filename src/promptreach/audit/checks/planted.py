"""Whether this training finds a prompt that is known to exist; asked only where the verdict hangs on it."""

from promptreach.audit.context import AuditContext
from promptreach.certificate import Evidence
from promptreach.diagnosis.measures import planted
from promptreach.diagnosis.rules.rules import hangs_on
from promptreach.report.findings import Finding, Table

_TITLE = "Does training find a prompt that exists?"


def run(context: AuditContext) -> Finding:
    """Plant a prompt, train a student on its answers with the settings that the best prompt had."""
    study = context.study
    reason = "" if hangs_on("planted", study.values) else "The verdict does not hang on it."
    found = None if reason else study.keep(planted.measure(study))
    if found is None or found.reason:
        return Finding(
            check="planted",
            title=_TITLE,
            status="skipped",
            evidence=Evidence.UNKNOWN,
            summary="No prompt was planted.",
            reason=reason or (found.reason if found is not None else ""),
        )
    columns = ["", found["unit"]]
    scores = [["without a prompt", found["control"]], ["trained", found["student"]], ["planted", found["possible"]]]
    return Finding(
        check="planted",
        title=_TITLE,
        evidence=found.evidence,
        sample=found.sample,
        summary=f"A prompt of {found['tokens']} vocabulary rows was planted, and {found['steps']} steps at rate "
        f"{found['learning_rate']:.2g} found {min(1.0, found['share']):.0%} of what it gains.",
        values=dict(found.values),
        blocks=[
            Table(
                title="The planted prompt and the trained one",
                columns=columns,
                rows=scores,
                note="The planted prompt wrote the answers, so a prompt that gives them all exists.",
            )
        ],
    )
