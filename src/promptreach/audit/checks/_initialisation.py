"""The start of virtual tokens, as a report shows it: beside the vocabulary, and its loss beside the bare model's."""

from promptreach.audit.check import Shown
from promptreach.audit.context import AuditContext
from promptreach.diagnosis.experiment import Measured
from promptreach.diagnosis.numbers import StartNumbers
from promptreach.report.findings import Cell, Table, Text


def show(context: AuditContext, found: Measured[StartNumbers]) -> Shown:
    """The starts, and what training made of the best one, beside the vocabulary."""
    numbers = found.numbers
    geometry, starts, prefixes = numbers.geometry, numbers.prompt_start_loss, numbers.prefix_start_loss
    random, used = geometry["random (start)"].norm_ratio, geometry["vocabulary (start)"].norm_ratio
    summary = (
        f"PEFT's random start puts prompt tokens at {random:.1f} times the median vocabulary row and moves the "
        f"validation loss from {numbers.bare_loss:.3f} to {starts['random (start)']:.3f} nats before the first step; "
        f"vocabulary rows ({used:.1f} times) move it to {starts['vocabulary (start)']:.3f}."
    )
    if "random" in prefixes:
        summary += f" A random prefix starts at {prefixes['random']:.3f}"
        summary += f", the cache of real text at {prefixes['text']:.3f}." if "text" in prefixes else "."
    tables = [_prompt_table(numbers), *([_prefix_table(numbers)] if prefixes else [])]
    return Shown(summary, [*tables, _advice(context)])


def _prompt_table(numbers: StartNumbers) -> Table:
    rows: list[list[Cell]] = []
    for name, found in numbers.geometry.items():
        loss = numbers.prompt_start_loss.get(name)
        change = None if loss is None else loss - numbers.bare_loss
        rows.append([name, found.norm_ratio, found.longer_than, found.nearest_cosine, loss, change])
    columns = ["prompt", "norm / median row", "longer than share of rows", "cosine to nearest row"]
    return Table(
        title="Prompt tokens against the vocabulary",
        columns=[*columns, "loss at start", "change from bare"],
        rows=rows,
    )


def _prefix_table(numbers: StartNumbers) -> Table:
    names, bare = {"text": "cache of real text", "random": "random (PEFT's default)"}, numbers.bare_loss
    rows: list[list[Cell]] = [[names[init], loss, loss - bare] for init, loss in numbers.prefix_start_loss.items()]
    return Table(title="Prefix starts", columns=["prefix", "loss at start", "change from bare"], rows=rows)


def _advice(context: AuditContext) -> Text:
    head = ", with the head at its probe" if context.kind is not None else ""
    return Text(
        text=f"Losses are in nats per answer on the validation rows{head}. A start that raises the loss has to be "
        "unlearnt first; a token far longer than any vocabulary row hardly turns at learning rates that suit the "
        "vocabulary."
    )
