"""The data alone: size, balance, lengths, and the floor that contradictions put under every method."""

from collections import Counter, defaultdict
from collections.abc import Sequence

from promptreach.audit.check import Shown
from promptreach.audit.context import AuditContext
from promptreach.data import LabelledTexts, NumberedTexts, SeveralLabels, TaggedWords, TaskData
from promptreach.diagnosis.circumstances import PartsNumbers
from promptreach.diagnosis.experiment import Measured
from promptreach.diagnosis.measures.floors import Floors
from promptreach.diagnosis.numbers import DataNumbers
from promptreach.evidence import Side
from promptreach.report.findings import Block, Cell, Table, Text
from promptreach.report.formatting import counted
from promptreach.rounding import shown_bound

_SHOWN = 8
"""Contradictions, labels or lengths that a table shows at most."""
_SUMMARIES = {
    "several_labels": " of any number of labels",
    "number": " of one number each",
    "tags": " of words with tags",
    "span": " of questions with answers in their context",
}
_CUT = (
    ("completions cut", "inside the completion, whose end is then not asked for"),
    ("answers cut", "in front of the answer or inside it, which then counts as missed (--max-length reads more)"),
)
"""What a cut inside an answer is called, and what it means: of completions, and of stretches of a context."""
_EXCERPT = 100
"""Characters of a text that a table shows."""


def show(context: AuditContext, found: Floors) -> Shown:
    """The data as the model sees it: after tokenization and truncation."""
    numbers = found.numbers
    blocks: list[Block] = [_size_table(numbers, found.lengths)]
    if table := _answer_table(context.data):
        blocks.append(table)
    if found.conflicting:
        blocks.append(_conflict_table(context, found))
    if numbers.kind in ("number", "span"):
        said = "For answers of this kind no floor is proved: rows that are the same to the model and carry different "
        return Shown(_summary(numbers), [*blocks, Text(text=f"{said}answers are counted, and that is all.")])
    blocks.append(
        Text(
            text="The floor counts what is the same to the model (same tokens after truncation) but is answered "
            "differently; of a completion, token by token behind the input and the tokens before it. No prompt, no "
            "LoRA and no full fine-tuning passes it on these rows, since all of them map equal inputs to equal outputs."
        )
    )
    return Shown(_summary(numbers), blocks)


def show_parts(context: AuditContext, found: Measured[PartsNumbers]) -> Shown:
    """The labels of each part, the rows that both parts hold, and what may be meant otherwise in the data."""
    numbers = found.numbers
    text = f"{numbers.known_rows:,} of {numbers.held_out_rows:,} held-out rows stand in the training part as well."
    blocks: list[Block] = [Text(text=remark) for remark in numbers.remarks]
    counts = sorted(numbers.held_out_labels.items(), key=lambda item: item[1])
    if counts:
        text += f" The rarest label, {counts[0][0]!r}, has {counts[0][1]:,} of them."
        rows: list[list[Cell]] = [[name, numbers.train_labels[name], count] for name, count in counts[:_SHOWN]]
        note = f"and {len(counts) - _SHOWN} more frequent labels" if len(counts) > _SHOWN else ""
        title = "The rarest labels of each part"
        blocks.append(Table(title=title, columns=["label", "training rows", "held-out rows"], rows=rows, note=note))
    if numbers.remarks:
        text += f" {len(numbers.remarks)} things in the data may be meant otherwise."
    return Shown(text, blocks)


def _size_table(numbers: DataNumbers, lengths: Sequence[int]) -> Table:
    columns: dict[str, Cell] = {
        "rows": numbers.rows,
        "different inputs": numbers.different_inputs,
        "median tokens": numbers.median_tokens,
        "99 % under": lengths[min(len(lengths) - 1, int(0.99 * len(lengths)))],
        "longest": numbers.longest_tokens,
        "cut at": numbers.max_length,
        "rows cut": numbers.truncated,
        **({_CUT[numbers.kind == "span"][0]: numbers.cut_answers} if numbers.cut_answers else {}),
    }
    return Table(
        title="Size and length",
        columns=list(columns),
        rows=[list(columns.values())],
        note="Tokens include the special tokens that the model expects; lengths are after cutting.",
    )


def _answer_table(data: TaskData) -> Table | None:
    """The labels by their rows, or the spread of the numbers; None for completions."""
    if isinstance(data, LabelledTexts):
        return _label_table(Counter(data.answers), len(data))
    if isinstance(data, SeveralLabels):
        return _label_table(Counter(data.label_names[one] for labels in data.label_sets for one in labels), len(data))
    if isinstance(data, TaggedWords):
        shares = Counter(data.label_names[tag] for tags in data.tags for tag in tags)
        return _label_table(shares, shares.total(), "words")
    if isinstance(data, NumberedTexts):
        ordered = sorted(data.numbers)
        places = {"least": 0.0, "a quarter under": 0.25, "half under": 0.5, "three quarters under": 0.75, "most": 1.0}
        found: list[Cell] = [ordered[round(share * (len(ordered) - 1))] for share in places.values()]
        return Table(title="Numbers", columns=list(places), rows=[found])
    return None


def _label_table(shares: Counter[str], rows: int, unit: str = "rows") -> Table:
    common = shares.most_common(_SHOWN)
    shown: list[list[Cell]] = [[label, count, count / rows] for label, count in common]
    rest = len(shares) - len(common)
    return Table(
        title="Labels",
        columns=["label", unit, "share"],
        rows=shown,
        note=f"and {rest} rarer labels" if rest else "",
    )


def _conflict_table(context: AuditContext, floors: Floors) -> Table:
    wanted = set(floors.conflicting[:_SHOWN])
    found: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for index, content in enumerate(floors.contents):
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
    rest = len(floors.conflicting) - len(rows)
    return Table(
        title="Equal inputs with different answers",
        columns=["input", "answers", "rows"],
        rows=rows,
        note=f"and {rest} more" if rest > 0 else "",
    )


def _summary(numbers: DataNumbers) -> str:
    text = counted(numbers.rows, "row") + _SUMMARIES.get(numbers.kind, "")
    if numbers.classes:
        text += f", {counted(numbers.classes, 'label')}, the most frequent on {numbers.majority_share:.1%}"
    if numbers.conflicting_rows:
        text += f". {counted(numbers.conflicting_rows, 'row')} contradict each other"
        if numbers.kind not in ("number", "span"):
            most = shown_bound(numbers.best_accuracy, Side.UPPER, percent=True)
            text += f": no method gets more than {most}% of the rows right"
        if numbers.kind == "completions":
            text += f", or below {shown_bound(numbers.loss_floor, Side.LOWER)} nats per token"
    else:
        text += ". No two equal inputs carry different answers, so the data sets no floor"
    are = "is" if numbers.truncated == 1 else "are"
    text += f". {counted(numbers.truncated, 'row')} {are} cut at {numbers.max_length} tokens"
    if numbers.cut_answers:
        text += f", {numbers.cut_answers:,} of them {_CUT[numbers.kind == 'span'][1]}"
    return f"{text}."
