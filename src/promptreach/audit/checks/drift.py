"""What each trained adapter does to plain text: the loss of language modelling with and without it."""

from promptreach.audit.context import AuditContext
from promptreach.certificate import Evidence
from promptreach.diagnosis.measures import forgetting as drift
from promptreach.report.findings import Cell, Finding, Table

_TITLE = "What tuning does to other text"


def run(context: AuditContext) -> Finding:
    """Score the held-out inputs as plain text with each adapter."""
    trained = {name: entry.best.adapter for name, entry in context.sweeps.items()}
    adapters = {name: adapter for name, adapter in trained.items() if adapter is not None}
    if context.adapter is not None:
        adapters["yours"] = context.adapter
    found = context.study.keep(drift.measure(context.study, adapters))
    if found.reason:
        return Finding(
            check="drift",
            title=_TITLE,
            status="skipped",
            evidence=Evidence.UNKNOWN,
            summary="Not measured.",
            reason=found.reason,
        )
    rises = found["rise"]
    rows: list[list[Cell]] = [[name, rise["gain"], rise["low"], rise["high"]] for name, rise in rises.items()]
    worst = max(rises, key=lambda name: float(rises[name]["gain"]))
    return Finding(
        check="drift",
        title=_TITLE,
        evidence=found.evidence,
        sample=found.sample,
        summary=f"Plain text costs the bare model {found['bare_loss']:.3f} nats per token; {worst} changes that most, "
        f"by {rises[worst]['gain']:+.3f}.",
        values=dict(found.values),
        blocks=[
            Table(
                title="Rise of the loss on plain text",
                columns=["adapter", "nats per token", "from", "to"],
                rows=rows,
                note="90 % intervals. A rise is what the model forgets while the adapter is on; off, it is as it was.",
            )
        ],
    )
