"""What the data alone decides: size, balance, lengths, and the floor that contradictions put under every method."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from promptreach.audit.context import AuditContext
from promptreach.diagnosis.measures import floors
from promptreach.report.findings import Block, Cell, Finding, Table, Text

_SHOWN = 8
"""How many contradictions, labels or lengths a table shows."""
_EXCERPT = 100


def run(context: AuditContext) -> Finding:
    """Measure the data as the model sees it: after tokenization and truncation."""
    max_length = min(context.settings.limits.max_length, context.model.max_positions - context.longest_prompt)
    found = floors.find(context.model, context.data, max_length)
    measured = context.found["data"] = found.measured
    values = dict(measured.values)
    lengths = sorted(len(sequence) for sequence in found.encoded.sequences)
    blocks: list[Block] = [_size_table(values, lengths)]
    if values["classes"]:
        blocks.append(_label_table(Counter(context.data.answers), len(context.data)))
    if found.conflicting:
        blocks.append(_conflict_table(context, found.contents, found.conflicting))
    blocks.append(
        Text(
            text="The floor counts what is the same to the model (same tokens after truncation) but is answered "
            "differently; of a completion, token by token behind the input and the tokens before it. No prompt, no "
            "LoRA and no full fine-tuning passes it on these rows, since all of them map equal inputs to equal outputs."
        )
    )
    return Finding(
        check="data",
        title="The data",
        evidence=measured.evidence,
        sample=measured.sample,
        summary=_summary(values, context.data.source),
        values=values,
        blocks=blocks,
        certificates=list(measured.certificates),
    )


def _size_table(values: Mapping[str, Any], lengths: Sequence[int]) -> Table:
    def at(share: float) -> int:
        return lengths[min(len(lengths) - 1, int(share * len(lengths)))]

    return Table(
        title="Size and length",
        columns=["rows", "different inputs", "median tokens", "99 % under", "longest", "cut at", "rows cut"],
        rows=[
            [
                values["rows"],
                values["different_inputs"],
                values["median_tokens"],
                at(0.99),
                values["longest_tokens"],
                values["max_length"],
                values["truncated"],
            ]
        ],
        note="Tokens include the special tokens that the model expects; lengths are after cutting.",
    )


def _label_table(shares: Counter[str], rows: int) -> Table:
    common = shares.most_common(_SHOWN)
    shown: list[list[Cell]] = [[label, count, count / rows] for label, count in common]
    rest = len(shares) - len(common)
    return Table(
        title="Labels",
        columns=["label", "rows", "share"],
        rows=shown,
        note=f"and {rest} rarer labels" if rest else "",
    )


def _conflict_table(
    context: AuditContext, contents: Sequence[tuple[int, ...]], conflicting: Sequence[tuple[int, ...]]
) -> Table:
    wanted = set(conflicting[:_SHOWN])
    found: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for index, content in enumerate(contents):
        if content in wanted:
            found[content].append(index)
    numbers = context.data.rows or range(1, len(context.data) + 1)
    rows: list[list[Cell]] = []
    for indices in found.values():
        text = context.data.inputs[indices[0]]
        rows.append(
            [
                text if len(text) <= _EXCERPT else f"{text[:_EXCERPT]}…",
                ", ".join(sorted({context.data.answers[i][:_EXCERPT] for i in indices})),
                ", ".join(str(numbers[i]) for i in indices[:_SHOWN]),
            ]
        )
    rest = len(conflicting) - len(rows)
    return Table(
        title="Equal inputs with different answers",
        columns=["input", "answers", "rows"],
        rows=rows,
        note=f"and {rest} more" if rest > 0 else "",
    )


def _summary(values: Mapping[str, Any], source: str) -> str:
    text = f"{values['rows']:,} rows"
    if values["classes"]:
        text += f", {values['classes']} labels, the most frequent on {values['majority_share']:.1%}"
    if values["conflicting_rows"]:
        text += (
            f". {values['conflicting_rows']:,} rows contradict each other: no method gets more than "
            f"{values['best_accuracy']:.1%} of the rows right"
        )
        if not values["classes"]:
            text += f", or below {values['loss_floor']:.3f} nats per token"
    else:
        text += ". No two equal inputs carry different answers, so the data sets no floor"
    return f"{text}. {values['truncated']:,} rows are cut at {values['max_length']} tokens."
