"""A few rows of the test part as they were answered: what was asked, what is right, and what each method says."""

from collections.abc import Mapping, Sequence
from contextlib import suppress

import torch

from promptreach.audit.check import Outcome, Shown
from promptreach.audit.context import AuditContext
from promptreach.data import Completions
from promptreach.diagnosis.experiment import Measured
from promptreach.diagnosis.measures.comparison import held_out
from promptreach.errors import InputError
from promptreach.report.findings import Cell, Table
from promptreach.training.runs import Run, applied
from promptreach.training.task.judging import SPARE, decoded, room_of
from promptreach.training.task.kinds.kind import TaskKind
from promptreach.training.task.limits import drawn_rows
from promptreach.training.task.objective import HeadObjective
from promptreach.training.task.writing import greedy

SHOWN = 6
"""Rows that are shown at most."""
_EXCERPT = 240
_METHODS = ("prompt", "prefix", "lora", "unipelt", "full")


def measure(context: AuditContext) -> Outcome:
    """The answers of the control and of each method's best run to rows drawn by the seed."""
    task = context.task
    rows = drawn_rows(len(task.held_out), SHOWN, context.seed)
    best = {run.config.label: run for method in _METHODS if (run := context.best(method)) is not None}
    control = "head alone" if context.kind is not None else "bare model"
    runs = {control: context.runs["head"]} if "head" in context.runs else {}
    given = {name: _answers(context, run, rows) for name, run in {**runs, **best}.items()}
    true = task.encoded["held_out"].texts or task.held_out.answers
    inputs, wanted = [task.held_out.inputs[row] for row in rows], [true[row] for row in rows]
    records = [
        {"input": text, "expected": answer.strip(), "answers": {name: own[at] for name, own in given.items()}}
        for at, (text, answer) in enumerate(zip(inputs, wanted, strict=True))
    ]
    right = {name: sum(own[at] == wanted[at].strip() for at in range(len(rows))) for name, own in given.items()}
    said = ", ".join(f"{name.replace('lora', 'LoRA')}: {count}" for name, count in right.items())
    summary = f"Of these {len(rows)} rows, drawn by the seed, word for word as expected: {said}."
    found = Measured({"rows": records}, f"{len(rows)} of {len(task.held_out):,} held-out rows")
    if task.train.kind == "number":
        summary = f"{len(rows)} rows, drawn by the seed, with the number that each method gives them."
    is_written = context.kind is None and not task.encoded["held_out"].options
    return found, Shown(summary, [_table(inputs, wanted, given, is_written=is_written)])


def _answers(context: AuditContext, run: Run, rows: Sequence[int]) -> list[str]:
    """The answers of a run to those held-out rows, as text."""
    task, found, data = context.task, held_out(run), context.task.held_out
    if context.kind is not None:
        return _read(context, context.kind, run, rows)
    if isinstance(data, Completions) and data.options:
        assert found.given is not None
        return [data.options[row][int(found.given[row])].strip() for row in rows]
    if found.written is not None:
        return [text.strip() for text in decoded(task.backbone, found.written[list(rows)].tolist())]
    lengths = task.encoded["train"].answer_lengths
    assert lengths is not None
    most, stops = max(lengths) + SPARE, frozenset[int]()
    with suppress(InputError):  # nothing ends an answer: it runs on
        most, stops = room_of(task.backbone, task.encoded["train"])
    prompts = task.encoded["held_out"].prompts
    with applied(task.backbone, run) as joined:
        written = greedy(task.backbone, [prompts[row] for row in rows], most, stops, joined)
    return [text.strip() for text in decoded(task.backbone, written)]


def _read(context: AuditContext, kind: TaskKind, run: Run, rows: Sequence[int]) -> list[str]:
    """The answers that a run's head reads off those rows."""
    task, encoded = context.task, context.task.encoded["held_out"]
    objective = task.objective()
    assert isinstance(objective, HeadObjective)
    objective.load_head(run.head)
    batch = encoded.batch(task.backbone, rows)
    with applied(task.backbone, run) as joined, torch.no_grad():
        outputs = objective.head(task.backbone.hidden(batch, joined), batch.mask).float().cpu()
    names = getattr(task.train, "label_names", ())
    return kind.said(outputs, encoded, rows, names, kind.scale(task.encoded["train"]))


def _table(
    inputs: Sequence[str], wanted: Sequence[str], given: Mapping[str, Sequence[str]], *, is_written: bool
) -> Table:
    rows: list[list[Cell]] = [
        [_cut(text), _cut(answer.strip()), *(_cut(own[at]) for own in given.values())]
        for at, (text, answer) in enumerate(zip(inputs, wanted, strict=True))
    ]
    note = "Completions are written token by token, the likeliest each time." if is_written else ""
    columns = ["input", "expected", *(name.replace("lora", "LoRA") for name in given)]
    return Table(title="Rows as they were answered", columns=columns, rows=rows, note=note)


def _cut(text: str) -> str:
    """The end of what was asked matters more than its beginning, and both more than the middle."""
    return text if len(text) <= _EXCERPT else f"{text[: _EXCERPT // 2]} … {text[-_EXCERPT // 2 :]}"
