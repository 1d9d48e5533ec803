"""The first look: what is known before anything is trained, what is likely, and what the rest will take.

It stands in the log and on the page within the first minute, and stays in the report beside what training then showed.
"""

from typing import Any

from promptreach.audit.check import Outcome, Shown
from promptreach.audit.context import AuditContext
from promptreach.audit.estimate import gib
from promptreach.certificate import Evidence
from promptreach.diagnosis.experiment import Measured, Skipped
from promptreach.diagnosis.measures.comparison import scores_of
from promptreach.diagnosis.measures.in_context import answered
from promptreach.diagnosis.numbers import BareNumbers, DataNumbers, Scores, numbers_of
from promptreach.diagnosis.rules.likely import Likely, likely, record_of
from promptreach.progress_log import duration
from promptreach.report.findings import Block, Cell, Table, Text
from promptreach.training.task.metric_names import in_words

NAME = "first_look"
"""The key of this check."""


def measure(context: AuditContext) -> Outcome:
    """Guess the verdict from the rows and the untrained model, and say what the rest will take."""
    data, bare = numbers_of(context.numbers, DataNumbers), numbers_of(context.numbers, BareNumbers)
    if data is None or bare is None:
        return Skipped("Neither the rows nor the untrained model could be looked at; their findings say why.")
    words = {name: _scores(context, name) for name in answered(context)}
    own = context.user_adapter is not None
    guess = likely(data, bare, context.metric, len(context.task.held_out), own)
    values: dict[str, Any] = {"rule": guess.rule, "likely": None if guess.verdict is None else guess.verdict.value}
    opening = context.opening
    plan = None if opening is None else opening.plan
    blocks: list[Block] = [_known(context, bare, words)]
    summary, rest = _said(guess), ""
    if plan is not None:
        seconds = plan.seconds_from(NAME)
        values["expected_seconds"], values["expected_bytes"] = seconds, plan.memory_bytes
        rest = f" The rest takes about {duration(seconds)} and {gib(plan.memory_bytes)} (PREDICTED)."
        blocks.append(_runs(context))
    elif opening is not None:
        blocks.append(Text(text=opening.text))
    found = Measured(values, f"{data.rows:,} rows, {context.judged_rows}; nothing trained", Evidence.PREDICTED)
    return found, Shown(summary + rest, blocks)


def _said(guess: Likely) -> str:
    """The guess as a sentence or two, with how often such a guess was right."""
    verdict = "Which verdict is likely is open" if guess.verdict is None else f"{guess.verdict.value} is likely"
    return " ".join(part for part in (f"{verdict}. {guess.text}", record_of(guess.rule)) if part)


def _scores(context: AuditContext, name: str) -> Scores:
    outcomes, _, _ = context.asked[name]
    return Scores(**scores_of(outcomes, context.beside, context.positive))


def _known(context: AuditContext, bare: BareNumbers, words: dict[str, Scores]) -> Table:
    """The scores without training, the answer that ignores its input among them."""
    metric, by_loss = context.metric, context.metric == "loss"
    name = "bare model" if context.kind is None else "head alone"

    def cells(what: str, found: Scores) -> list[Cell]:
        value = found.accuracy if metric == "accuracy" or found.value is None else found.value
        return [what, *([] if by_loss else [round(value, 4)]), found.loss]

    rows = [cells(name, bare), *(cells(what, found) for what, found in words.items())]
    if bare.constant is not None:
        rows.append(["an answer that ignores its input", *([] if by_loss else [round(bare.constant, 4)]), None])
    scores = [] if by_loss else [f"held-out {in_words(metric)}"]
    note = "Nothing is trained but a linear head, where there is one."
    return Table(title="Before any training", columns=["", *scores, "held-out loss (nats)"], rows=rows, note=note)


def _runs(context: AuditContext) -> Table:
    """What will be trained, and for how long."""
    assert context.opening is not None
    plan = context.opening.plan
    assert plan is not None
    rows: list[list[Cell]] = [
        [run.name.replace("lora", "LoRA"), run.steps, round(plan.slowness * run.seconds, 1)] for run in plan.runs
    ]
    note = (
        "PREDICTED from steps timed on these rows at the load of that moment; longer prompts are left out where they "
    )
    return Table(
        title="To be trained",
        columns=["run", "steps, search included", "expected seconds"],
        rows=rows,
        note=f"{note}cannot help, and others are added where the verdict hangs on them.",
    )
