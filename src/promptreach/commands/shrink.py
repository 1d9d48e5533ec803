"""A shorter prefix as a finding: what it costs in loss, and how far each layer's heads are off."""

import math
from typing import Any

from promptreach.certificate import Evidence
from promptreach.hf import Shortened
from promptreach.report.certificates import finished
from promptreach.report.findings import Cell, Finding, Table, Text


def shortened_finding(short: Shortened, length: int) -> Finding:
    """What `promptreach.hf.running.shorten` found, for a prefix that had `length` slots."""
    full, now, bare = (part.value for part in (short.loss, short.shortened_loss, short.bare_loss))
    relative, worth = now / full - 1, bare - full
    summary = (
        f"{length} slots became {short.prefix.length}. On held-out text the loss goes from {full:.4f} to {now:.4f} "
        f"nats a token ({100 * relative:+.2f} %); without any prefix it is {bare:.4f}."
    )
    values: dict[str, Any] = {
        "slots": short.prefix.length,
        "full_slots": length,
        "loss": full,
        "shortened_loss": now,
        "bare_loss": bare,
        "relative_loss": relative,
        "kept_of_the_gain": 1 - (now - full) / worth if worth > 0 else None,
        "largest_error": short.shrunk.certificate.value,
        "budgets": short.shrunk.budgets.tolist(),
        "errors": short.shrunk.errors.tolist(),
    }
    finding = Finding(
        check="shrink",
        title="A shorter prefix",
        evidence=Evidence.MEASURED,
        sample=f"{short.loss.sample}; errors on {short.shrunk.certificate.sample}",
        summary=summary,
        values=values,
        blocks=[_table(short), Text(text=_meaning(worth))],
        certificates=[short.loss, short.shortened_loss, short.bare_loss, short.shrunk.certificate],
    )
    return finished(finding)


def _table(short: Shortened) -> Table:
    rows: list[list[Cell]] = []
    for layer, (errors, budgets) in enumerate(zip(short.shrunk.errors, short.shrunk.budgets, strict=True)):
        rows.append([layer, float(budgets.float().mean()), float(errors.median()), float(errors.max())])
    return Table(
        title="Error of each layer's attention outputs",
        columns=["layer", "slots a head", "median error", "largest error"],
        rows=rows,
        note="Relative to how much the output varies over queries (Frobenius norms), on queries that no fit saw. "
        "MEASURED; it says nothing of other text.",
    )


def _meaning(worth: float) -> str:
    if worth <= 0 or math.isnan(worth):
        return "The full prefix does not lower the loss of this text, so the loss says little of what was lost."
    return (
        f"The full prefix is worth {worth:.4f} nats a token on this text. A prefix that text is copied out of verbatim "
        "loses more when it is shortened than one that sets topic and manner: measure on text like your own."
    )
