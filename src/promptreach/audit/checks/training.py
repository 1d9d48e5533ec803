"""Matched training: prompts, a prefix and LoRA on the same rows with the same steps, and the differences between them.

Every difference is paired: two methods answer the same held-out rows, so the interval is over their disagreements and
much narrower than the two scores' own intervals. One seed is trained; the interval covers the choice of rows, not the
luck of a seed, and the rules keep a margin for that.
"""

import math
from collections.abc import Sequence
from typing import Any

from promptreach.audit.context import AuditContext
from promptreach.diagnosis.measures import baselines as ladder
from promptreach.diagnosis.measures.user_run import score_theirs
from promptreach.prompt import LowRankUpdate, Prefix, SoftPrompt
from promptreach.report.findings import Cell, Curve, Finding, Series, Table
from promptreach.training.runs import Run
from promptreach.training.task.objective import Outcomes


def run(context: AuditContext) -> Finding:
    """Train every method of the budget and compare them on the held-out rows."""
    study = context.study
    runs = {"head": ladder.train_control(study)} | {n: entry.best for n, entry in ladder.train_ladder(study).items()}
    outcomes = {name: run.held_out for name, run in runs.items() if run.held_out is not None}
    context.theirs = score_theirs(study)
    if context.theirs is not None:
        outcomes["yours"] = context.theirs.outcomes
    measured = study.keep(ladder.measure(study, context.theirs.outcomes if context.theirs else None))
    values = dict(measured.values)
    return Finding(
        check="training",
        title="Matched training",
        evidence=measured.evidence,
        sample=measured.sample,
        summary=_summary(outcomes, runs, values["metric"]),
        values=values,
        blocks=[_method_table(context, runs, outcomes, values), _validation_curve(runs), _trial_table(context)],
    )


def _method_table(
    context: AuditContext, runs: dict[str, Run], outcomes: dict[str, Outcomes], values: dict[str, Any]
) -> Table:
    metric = values["metric"]
    unit = "points of accuracy" if metric == "accuracy" else "nats per token saved"
    scale = 100.0 if metric == "accuracy" else 1.0
    columns = ["method", "held-out accuracy", "held-out loss", f"against LoRA ({unit}, 90 %)", "train loss"]
    columns += ["parameters", "learning rate", "start", "seconds"]
    rows: list[list[Cell]] = []
    for name, outcome in outcomes.items():
        run = runs.get(name)
        against = values["against_lora"].get(name)
        interval = (
            f"{scale * against['gain']:+.2g} ({scale * against['low']:+.2g} to {scale * against['high']:+.2g})"
            if against
            else None
        )
        shown: list[Cell] = [_name(context, name), round(outcome.accuracy, 4), outcome.mean_loss, interval]
        if run is None:
            shown += [None] * 5
        else:
            train_loss = run.train_loss if math.isfinite(run.train_loss) else None
            rate = run.config.learning_rate or None
            shown += [train_loss, run.parameters, rate, run.config.init, round(run.seconds, 1)]
        rows.append(shown)
    best = max(
        (name for name in outcomes if name != "yours"),
        key=lambda n: outcomes[n].accuracy if metric == "accuracy" else -outcomes[n].mean_loss,
    )
    return Table(
        title="Methods side by side",
        columns=columns,
        rows=rows,
        highlight=list(outcomes).index(best),
        note="Same rows, same steps, same starting head; the best validation state of each run. Parameters do not "
        "count the head, which all share. Train loss is the mean over the last stretch of training."
        + _left_out(values["lengths_left_out"]),
    )


def _left_out(lengths: Sequence[int]) -> str:
    if not lengths:
        return ""
    named = " and ".join(map(str, lengths))
    return f" Prompts of {named} tokens were not trained: a shorter one is as good as LoRA, and tokens do not bind it."


def _name(context: AuditContext, name: str) -> str:
    if name == "head":
        return "head alone" if context.is_classification else "bare model"
    if name == "yours":
        kinds = {SoftPrompt: "prompt", Prefix: "prefix", LowRankUpdate: "LoRA"}
        return f"your {kinds[type(context.adapter)]}"
    return name.replace("lora", "LoRA")


def _validation_curve(runs: dict[str, Run]) -> Curve:
    series = [
        Series(
            name=name.replace("lora", "LoRA"),
            x=[float(look.step) for look in run.curve],
            y=[look.validation_loss for look in run.curve],
        )
        for name, run in runs.items()
        if len(run.curve) > 1
    ]
    return Curve(
        title="Validation loss while training",
        x_label="steps",
        y_label="nats per answer",
        series=series,
        note="Step 0 is the untrained start: the damage that virtual tokens do before they learn anything.",
    )


def _trial_table(context: AuditContext) -> Table:
    trials: Sequence[Run] = [trial for entry in context.sweeps.values() for trial in entry.trials]
    rows: list[list[Cell]] = [
        [
            trial.config.label.replace("lora", "LoRA"),
            trial.config.learning_rate,
            trial.config.learning_rate / trial.unit,
            trial.validation.mean_loss if trial.status == "finished" else "diverged",
            trial.steps,
        ]
        for trial in trials
    ]
    return Table(
        title="Learning rates tried",
        columns=["method and size", "learning rate", "in units of a typical entry", "validation loss", "steps"],
        rows=rows,
        note="Short runs, judged on the validation rows only; the best rate is then trained in full.",
    )


def _summary(outcomes: dict[str, Outcomes], runs: dict[str, Run], metric: str) -> str:
    def score(name: str) -> str:
        found = outcomes[name]
        return f"{found.accuracy:.1%}" if metric == "accuracy" else f"{found.mean_loss:.3f} nats per token"

    soft = [name for name, run in runs.items() if run.config.method in ("prompt", "prefix")]
    best = max(soft, key=lambda n: outcomes[n].accuracy if metric == "accuracy" else -outcomes[n].mean_loss)
    lora = next(name for name, run in runs.items() if run.config.method == "lora")
    control = "the head alone" if metric == "accuracy" else "the bare model"
    return (
        f"Best soft prompt ({best}): {score(best)}. LoRA: {score(lora)}. {control.capitalize()}: {score('head')}."
        + (f" Your adapter: {score('yours')}." if "yours" in outcomes else "")
    )
