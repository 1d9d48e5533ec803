"""Whether the user's classifier gives nearly every row the same class."""

from promptreach.audit.context import AuditContext
from promptreach.certificate import Evidence
from promptreach.diagnosis.measures import collapse
from promptreach.report.findings import Finding

_TITLE = "How your adapter spreads its answers"


def run(context: AuditContext) -> Finding:
    """Count the classes that the user's adapter gives to the held-out rows."""
    theirs = context.theirs
    found = collapse.measure(context.study, theirs.answers) if theirs is not None else None
    if found is None or found.reason:
        return Finding(
            check="collapse",
            title=_TITLE,
            status="skipped",
            evidence=Evidence.UNKNOWN,
            summary="No classifier was given.",
            reason=found.reason if found is not None else "No adapter was given.",
        )
    context.study.keep(found)
    word = "collapsed" if found["collapsed"] else "not collapsed"
    return Finding(
        check="collapse",
        title=_TITLE,
        evidence=found.evidence,
        sample=found.sample,
        summary=f"It is {word}: {found['share']:.1%} of the rows go into “{found['class']}”, which is true of "
        f"{found['true_share']:.1%}; {found['classes_never_given']} classes are never given.",
        values=dict(found.values),
    )
