"""The predictions of `promptreach.tuning.predict` beside what training then reached: PREDICTED beside MEASURED.

Only the methods and lengths that were trained are predicted, only as many as cost a small share of that training, and
from fewer training rows where all of them would cost more.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from promptreach.audit.check import Outcome, Shown
from promptreach.audit.context import AuditContext
from promptreach.certificate import Evidence
from promptreach.diagnosis.experiment import Measured, Skipped
from promptreach.diagnosis.measures.comparison import held_out
from promptreach.prediction.forecast import CONFIDENCE, Prediction
from promptreach.prediction.predict import GROUPS, LEFT_OUT, forecasts
from promptreach.report.findings import Cell, Table
from promptreach.training.runs import Run
from promptreach.training.task.limits import drawn_rows
from promptreach.training.task.task import Task

MOST = 0.1
"""The most that predictions may cost, as a share of the rows that training went through forward and backward."""
LEAST_ROWS = 0.5
"""The share of the training rows below which nothing is predicted: from fewer, more is lost than training loses."""
MOST_HELD_OUT = 256
"""Held-out rows that predictions are made for; they score a prediction and take part in nothing."""
_ORDER = ("prompt", "lora", "prefix")
_SHOWN = ("predicted_loss", "low", "high", "loss", "reachable_share")


def measure(context: AuditContext) -> Outcome:
    """Predict the trained methods from gradients at their start, and put the outcomes beside it."""
    if not context.predicts:
        return Skipped(
            "Only budget thorough predicts: gradients for it cost a tenth of the training and save none of it; "
            "promptreach.tuning.predict makes the predictions by itself."
        )
    if context.kind is not None and not context.is_classification:
        return Skipped("Only the answers of one label a row, and completions, are predicted from gradients.")
    if context.task.class_weights is not None or context.task.encoded["train"].weights is not None:
        return Skipped("Predictions count every row alike, and here rows or classes have weights.")
    if context.task.encoded["train"].options is not None:
        return Skipped("The forecast is of a loss per token, and a choice among options is judged row by row.")
    methods, train_rows = affordable(context)
    if not methods:
        return Skipped(
            f"Gradients of {LEAST_ROWS:.0%} of the rows would cost more than {MOST:.0%} of this training; "
            "promptreach.prediction.predict makes the predictions by itself."
        )
    task, seed = context.task, context.seed
    rows = drawn_rows(len(task.held_out), MOST_HELD_OUT, seed)
    cut = _cut(task, {"train": drawn_rows(len(task.train), train_rows, seed), "held_out": rows})
    pairs = list(_pairs(context, cut, methods))
    values = {name: _beside(prediction, _loss(run, rows)) for name, prediction, run in pairs}
    inside = sum(bool(entry["inside"]) for entry in values.values())
    certificates = tuple(certificate for _, prediction, _ in pairs for certificate in prediction.certificates)
    found = Measured({"methods": values}, pairs[0][1].sample, Evidence.PREDICTED, certificates)
    summary = f"{inside} of {len(values)} outcomes lie in the {CONFIDENCE:.0%} interval that was predicted for them "
    return found, Shown(f"{summary}from gradients at the start.", [_table(values)])


def _beside(prediction: Prediction, loss: float) -> dict[str, float | None]:
    low, high = prediction.interval
    return {
        "predicted_loss": prediction.held_out_loss,
        "low": low,
        "high": high,
        "predicted_accuracy": prediction.accuracy,
        "reachable_share": prediction.reachable_share,
        "loss": loss,
        "inside": low <= loss <= high,
    }


def affordable(context: AuditContext) -> tuple[list[str], int]:
    """As many methods as may be predicted, those first that matter most, and from how many training rows."""
    task = context.task
    done = {run.config.method for run in context.runs.values() if run.status == "finished"}
    methods = [method for method in _ORDER if method in done]
    backward = 1 if context.is_classification else GROUPS
    rows = MOST * sum(entry.steps for entry in context.sweeps.values()) * context.batch_size / backward
    beside = min(LEFT_OUT, len(task.train)) + min(MOST_HELD_OUT, len(task.held_out))
    for count in range(len(methods), 0, -1):
        left = int(rows / count) - beside
        if left >= LEAST_ROWS * len(task.train):
            return methods[:count], min(left, len(task.train))
    return [], 0


def _pairs(context: AuditContext, task: Task, methods: list[str]) -> Iterator[tuple[str, Prediction, Run]]:
    """Each prediction with the run that it was made for."""
    runs = {name: run for name, run in context.runs.items() if run.status == "finished"}
    for method in methods:
        own = {name: run for name, run in runs.items() if run.config.method == method}
        sizes = sorted({run.config.tokens or run.config.rank for run in own.values()})
        with context.progress.task(f"predicting {method}", total=1) as step:
            made = list(forecasts(task, [method], sizes, sizes, context.seed, step))
        for prediction in made:
            for name, run in own.items():
                if (run.config.tokens, run.config.rank) == (prediction.tokens, prediction.rank):
                    yield name, prediction, run


def _cut(task: Task, rows: Mapping[str, list[int]]) -> Task:
    """The same task with these rows of its parts only."""
    encoded = {**task.encoded, **{part: task.encoded[part].take(indices) for part, indices in rows.items()}}
    return replace(
        task, train=task.train.take(rows["train"]), held_out=task.held_out.take(rows["held_out"]), encoded=encoded
    )


def _loss(run: Run, rows: list[int]) -> float:
    found = held_out(run)
    return float(found.loss[rows].double().sum() / found.answers[rows].double().sum())


def _table(found: Mapping[str, Mapping[str, float | None]]) -> Table:
    rows: list[list[Cell]] = [
        [name.replace("lora", "LoRA"), *(entry[key] for key in _SHOWN)] for name, entry in found.items()
    ]
    return Table(
        title="Prediction beside outcome",
        columns=["form", "predicted loss", "from", "to", "reached (MEASURED)", "reachable to first order"],
        rows=rows,
        note=f"Held-out loss in nats per answer; {CONFIDENCE:.0%} intervals, PREDICTED. The last column is the share "
        "of the training rows' squared residual that some small change of this form answers.",
    )
