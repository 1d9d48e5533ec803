"""The user's adapter, taken apart: the cost of its read-out, what is left to its training, and its favourite class."""

from promptreach.audit.check import Outcome, Shown, shows
from promptreach.audit.context import AuditContext
from promptreach.diagnosis.circumstances import BroughtNumbers
from promptreach.diagnosis.experiment import Measured
from promptreach.diagnosis.numbers import AttemptNumbers, CollapseNumbers, PoolingNumbers, numbers_of
from promptreach.diagnosis.rules.measurements import POOLINGS_IN_WORDS
from promptreach.diagnosis.steps import ATTEMPT, READING
from promptreach.report.findings import Block, Cell, Table
from promptreach.training.task.metric_names import in_words

_WITHOUT_USER = "Pass the folder of your adapter to see what it lost, and where."


def measure(context: AuditContext) -> Outcome:
    """Read the user's adapter elsewhere, and say what that is worth."""
    if context.user_run is not None:
        READING.take(context)
    return shows(ATTEMPT, _show, without_user=_WITHOUT_USER)(context)


def show_brought(context: AuditContext, found: Measured[BroughtNumbers]) -> Shown:
    """The adapter's folder and head in words: what it changes, and how it was led to this data and model."""
    numbers = found.numbers
    said = [
        "It changes nothing of what the model computes" if numbers.unchanged else "It changes what the model computes"
    ]
    if numbers.updates:
        said.append(f"{numbers.zero_updates} of its {numbers.updates} updates are zero")
    if numbers.other_base:
        said.append(f"it names {numbers.other_base} as its base model")
    if numbers.added_tokens:
        said.append(f"its tokenizer has {len(numbers.added_tokens)} tokens of its own, and was used")
    if numbers.extra_outputs or numbers.missing_outputs:
        said.append(
            f"its classifier has {numbers.extra_outputs} outputs more and {numbers.missing_outputs} fewer than the "
            "data has labels"
        )
    rows: list[list[Cell]] = [[output, label] for output, label in numbers.numbering.items()]
    title, note = "Outputs that stand for another label than in sorted order", "Matched on the training rows."
    table = Table(title=title, columns=["output", "label"], rows=rows, note=note)
    return Shown(f"{'; '.join(said)}.", [table] if rows else [])


def show_collapse(context: AuditContext, found: Measured[CollapseNumbers]) -> Shown:
    """The class that the user's classifier gives most often, in words."""
    numbers = found.numbers
    return Shown(
        f"It is {'collapsed' if numbers.collapsed else 'not collapsed'}: {numbers.share:.1%} of the rows go into "
        f"“{numbers.favourite}”, which is true of {numbers.true_share:.1%}; {numbers.classes_never_given} classes are "
        "never given."
    )


def _show(context: AuditContext, found: Measured[AttemptNumbers]) -> Shown:
    reading = numbers_of(context.numbers, PoolingNumbers)
    blocks: list[Block] = [_path_table(context, found.numbers)]
    if reading is not None and reading.adapter:
        blocks.append(_reading_table(reading, "accuracy" if context.is_classification else in_words(context.metric)))
    return Shown(_summary(found.numbers), blocks, {"reading": context.found[READING.name].values})


def _summary(numbers: AttemptNumbers) -> str:
    if not numbers.path:
        return "The adapter tells neither where a head reads it nor how it was trained."
    step = numbers.path[0]
    return (
        f"The same adapter, read through a linear head on {_place(step.after)}, gains "
        f"{100 * step.worth.gain:+.1f} points over its own head at {_place(step.before)}."
    )


def _path_table(context: AuditContext, numbers: AttemptNumbers) -> Table:
    start, metric = numbers.start.loss, "loss (nats per token)"
    if context.is_classification:
        start, metric = numbers.start.accuracy, "accuracy"
    elif context.kind is not None:
        start, metric = numbers.start.value or 0.0, in_words(context.metric)
    rows: list[list[Cell]] = [["as it is", None, None, start, None]]
    rows += [
        ["the read-out", _place(step.before), _place(step.after), step.score, step.worth.gain] for step in numbers.path
    ]
    return Table(
        title="From your settings to the ones that fit",
        columns=["changed", "from", "to", metric, "worth"],
        rows=rows,
        note="What is left to the run of the same form in the comparison of methods is start, rate or steps, which an "
        "adapter does not tell.",
    )


def _reading_table(reading: PoolingNumbers, metric: str) -> Table:
    rows: list[list[Cell]] = [
        [_place(place), accuracy, reading.adapter.get(place)] for place, accuracy in reading.bare.items()
    ]
    return Table(
        title="Your adapter through a head fitted at each place",
        columns=["read-out", f"{metric} without", f"{metric} with your adapter"],
        rows=rows,
        highlight=list(reading.bare).index(reading.chosen),
    )


def _place(pooling: object) -> str:
    return POOLINGS_IN_WORDS[str(pooling)]
