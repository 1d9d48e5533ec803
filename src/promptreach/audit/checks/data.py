"""What the data alone decides: size, balance, lengths, and the floor that contradictions put under every method."""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from promptreach.audit.context import AuditContext
from promptreach.audit.findings import Block, Cell, Finding, Table, Text
from promptreach.certificate import Assumption, Certificate, Evidence, Side, rechecks
from promptreach.data import LabelledTexts
from promptreach.tuning.encoding import encode

_SHOWN = 8
"""How many contradictions, labels or lengths a table shows."""
_EXCERPT = 100


def run(context: AuditContext) -> Finding:
    """Measure the data as the model sees it: after tokenization and truncation."""
    data = context.data
    max_length = min(context.settings.limits.max_length, context.model.max_positions - max(context.settings.tokens))
    encoded = encode(context.model, data, max_length)
    contents = _contents(encoded.sequences, encoded.answer_lengths)
    groups = _groups(contents, data.answers)
    answers = [1] * len(data) if encoded.answer_lengths is None else list(encoded.answer_lengths)
    loss_floor, accuracy_floor = _floors(groups, sum(answers))
    conflicting = [key for key, counts in groups.items() if len(counts) > 1]
    shares = Counter(data.answers)
    lengths = sorted(len(sequence) for sequence in encoded.sequences)
    classes = len(data.label_names) if isinstance(data, LabelledTexts) else 0
    values: dict[str, Any] = {
        "rows": len(data),
        "classes": classes,
        "majority_share": max(shares.values()) / len(data) if classes else None,
        "smallest_class": min(shares.values()) if classes else None,
        "different_inputs": len(groups),
        "conflicting_inputs": len(conflicting),
        "conflicting_rows": sum(sum(groups[key].values()) for key in conflicting),
        "loss_floor": loss_floor.value,
        "best_accuracy": accuracy_floor.value,
        "truncated": encoded.truncated,
        "median_tokens": lengths[len(lengths) // 2],
        "longest_tokens": lengths[-1],
        "max_length": max_length,
    }
    blocks: list[Block] = [_size_table(values, lengths)]
    if classes:
        blocks.append(_label_table(shares, len(data)))
    if conflicting:
        blocks.append(_conflict_table(context, contents, conflicting))
    blocks.append(
        Text(
            text="The floor counts inputs that are the same to the model (same tokens after truncation) but carry "
            "different answers. No prompt, no LoRA and no full fine-tuning passes it on these rows, since all of them "
            "map equal inputs to equal outputs."
        )
    )
    return Finding(
        check="data",
        title="The data",
        evidence=Evidence.PROVED,
        sample=f"all {len(data):,} rows",
        summary=_summary(values, data.source),
        values=values,
        blocks=blocks,
        certificates=[loss_floor.to_dict(), accuracy_floor.to_dict()],
    )


def _contents(sequences: Sequence[tuple[int, ...]], answer_lengths: Sequence[int] | None) -> list[tuple[int, ...]]:
    """What the model reads of each example before it must answer."""
    if answer_lengths is None:
        return list(sequences)
    return [ids[: len(ids) - length] for ids, length in zip(sequences, answer_lengths, strict=True)]


def _groups(contents: Sequence[tuple[int, ...]], answers: Sequence[str]) -> dict[tuple[int, ...], Counter[str]]:
    groups: dict[tuple[int, ...], Counter[str]] = defaultdict(Counter)
    for content, answer in zip(contents, answers, strict=True):
        groups[content][answer] += 1
    return groups


def _floors(groups: Mapping[tuple[int, ...], Counter[str]], answers: int) -> tuple[Certificate, Certificate]:
    """The least mean loss and the best accuracy that any function of the input reaches on these rows.

    For a group of equal inputs with counts c_1, ..., c_k the best constant answer is the empirical distribution: its
    loss is -sum c_i log(c_i / c), and the most frequent answer is right max c_i times. Both are attained.
    """
    counts = [sorted(group.values(), reverse=True) for group in groups.values()]
    rows = sum(map(sum, counts))
    # Groups with one answer add nothing to the loss and everything to the accuracy, so they are kept as one number.
    conflicts = [group for group in counts if len(group) > 1]
    witness = {"conflicts": conflicts, "rows": rows, "answers": answers}
    assumption = (
        Assumption("the model's output is a function of the tokens it reads", True, "evaluation without dropout"),
    )
    loss = Certificate(
        claim="value is the least mean loss, in nats per answer, of any function of the input on these rows",
        value=_loss_floor(conflicts, answers),
        side=Side.EXACT,
        evidence=Evidence.PROVED,
        assumptions=assumption,
        witness=witness,
        checker="audit.checks.data:recheck_loss_floor",
    )
    accuracy = Certificate(
        claim="value is the largest share of rows on which any function of the input gives the whole answer",
        value=1 - sum(sum(group) - group[0] for group in conflicts) / rows,
        side=Side.EXACT,
        evidence=Evidence.PROVED,
        assumptions=assumption,
        witness=witness,
        checker="audit.checks.data:recheck_best_accuracy",
    )
    return loss, accuracy


def _loss_floor(conflicts: Sequence[Sequence[int]], answers: int) -> float:
    return math.fsum(-count * math.log(count / sum(group)) for group in conflicts for count in group) / answers


@rechecks
def recheck_loss_floor(certificate: Certificate) -> bool:
    """The same floor as the summed entropy of the groups, c log c - sum c_i log c_i."""
    conflicts, answers = certificate.witness["conflicts"], certificate.witness["answers"]
    total = math.fsum(
        sum(group) * math.log(sum(group)) - math.fsum(count * math.log(count) for count in group) for group in conflicts
    )
    return math.isclose(total / answers, certificate.value, rel_tol=1e-9, abs_tol=1e-12)


@rechecks
def recheck_best_accuracy(certificate: Certificate) -> bool:
    """Count the rows that a majority answer per group gets right."""
    conflicts, rows = certificate.witness["conflicts"], certificate.witness["rows"]
    alone = rows - sum(map(sum, conflicts))
    return math.isclose((alone + sum(map(max, conflicts))) / rows, certificate.value, rel_tol=1e-12)


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
    else:
        text += ". No two equal inputs carry different answers, so the data sets no floor"
    return f"{text}. {values['truncated']:,} rows are cut at {values['max_length']} tokens."
