"""The initialisation doctor: how far virtual tokens stand from anything the model has seen, and what that costs.

A vocabulary row is the model's own idea of an input. Virtual tokens many times longer than any of them saturate the
first norm, hardly turn under an optimiser's steps, and raise the loss before training starts.
"""

from promptreach.audit.context import AuditContext
from promptreach.diagnosis.measures import start
from promptreach.report.findings import Cell, Finding, Table, Text


def run(context: AuditContext) -> Finding:
    """Compare starts, and what training made of the best one, with the vocabulary."""
    measured = context.study.keep(start.measure(context.study))
    values = dict(measured.values)
    geometry, starts, prefixes, bare = (
        values[key] for key in ("geometry", "prompt_start_loss", "prefix_start_loss", "bare_loss")
    )
    random, used = geometry["random (start)"]["norm_ratio"], geometry["vocabulary (start)"]["norm_ratio"]
    summary = (
        f"PEFT's random start puts prompt tokens at {random:.1f} times the median vocabulary row and moves the "
        f"validation loss from {bare:.3f} to {starts['random (start)']:.3f} nats before the first step; vocabulary "
        f"rows ({used:.1f} times) move it to {starts['vocabulary (start)']:.3f}. A random prefix starts at "
        f"{prefixes['random']:.3f}, the cache of real text at {prefixes['text']:.3f}."
    )
    return Finding(
        check="initialisation",
        title="Where the virtual tokens start",
        evidence=measured.evidence,
        sample=measured.sample,
        summary=summary,
        values=values,
        blocks=[_prompt_table(geometry, starts, bare), _prefix_table(prefixes, bare), _advice(context)],
    )


def _prompt_table(geometry: dict[str, dict[str, float]], starts: dict[str, float], bare: float) -> Table:
    rows: list[list[Cell]] = []
    for name, found in geometry.items():
        loss = starts.get(name)
        change = None if loss is None else loss - bare
        rows.append([name, found["norm_ratio"], found["longer_than"], found["nearest_cosine"], loss, change])
    columns = ["prompt", "norm / median row", "longer than share of rows", "cosine to nearest row"]
    return Table(
        title="Prompt tokens against the vocabulary",
        columns=[*columns, "loss at start", "change from bare"],
        rows=rows,
    )


def _prefix_table(prefixes: dict[str, float], bare: float) -> Table:
    names = {"text": "cache of real text", "random": "random (PEFT's default)"}
    rows: list[list[Cell]] = [[names[init], loss, loss - bare] for init, loss in prefixes.items()]
    return Table(title="Prefix starts", columns=["prefix", "loss at start", "change from bare"], rows=rows)


def _advice(context: AuditContext) -> Text:
    head = ", with the head at its probe" if context.is_classification else ""
    return Text(
        text=f"Losses are in nats per answer on the validation rows{head}. A start that raises the loss has to be "
        "unlearnt first; a token far longer than any vocabulary row hardly turns at learning rates that suit the "
        "vocabulary."
    )
