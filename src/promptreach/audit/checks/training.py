"""Matched training: prompts, a prefix and LoRA on the same rows with the same steps, and the differences between them.

Every difference is paired: two methods answer the same held-out rows, so the interval is over their disagreements and
much narrower than the two scores' own intervals. One seed is trained; the interval covers the choice of rows, not the
luck of a seed, and the rules keep a margin for that.
"""

import math
from collections.abc import Sequence
from typing import Any

from promptreach.audit.context import AuditContext
from promptreach.audit.findings import Cell, Curve, Finding, Series, Table
from promptreach.certificate import Evidence
from promptreach.hf import attach
from promptreach.prompt import LowRankUpdate, Prefix, SoftPrompt
from promptreach.tuning.methods import METHODS
from promptreach.tuning.objective import Outcomes
from promptreach.tuning.runs import Run
from promptreach.tuning.sweep import Sweep, sweep

_NORMAL_90 = 1.6449


def train_control(context: AuditContext) -> Run:
    """The head-only control (for completions: the bare model), trained once."""
    if "head" not in context.sweeps:
        config = context.config("head", init="probe")
        context.sweeps["head"] = sweep(context.task, config, context.store, context.progress, rates=[0.0])
    return context.sweeps["head"].best


def run(context: AuditContext) -> Finding:
    """Train every method of the budget and compare them on the held-out rows."""
    control = train_control(context)
    runs = {"head": control} | {name: entry.best for name, entry in _train_all(context).items()}
    outcomes = {name: run.held_out for name, run in runs.items() if run.held_out is not None}
    if context.adapter is not None:
        outcomes["yours"] = _score_own(context)
    metric = "accuracy" if context.is_classification else "loss"
    tried = {kind: _largest_rate(context, kind) for kind in METHODS}
    methods = {name: _method_values(run, tried[run.config.method]) for name, run in runs.items()}
    lora = next(name for name in runs if name.startswith("lora"))
    values = {
        "metric": metric,
        "train_rows": len(context.task.train),
        "held_out_rows": len(context.task.held_out),
        "methods": methods,
        "against_lora": {n: _paired(o, outcomes[lora], metric) for n, o in outcomes.items() if n != lora},
        "against_head": {n: _paired(o, outcomes["head"], metric) for n, o in outcomes.items() if n != "head"},
        "lora": lora,
        "yours": _score_values(outcomes["yours"]) if "yours" in outcomes else None,
    }
    seconds = sum(entry.best.seconds + sum(t.seconds for t in entry.trials) for entry in context.sweeps.values())
    return Finding(
        check="training",
        title="Matched training",
        evidence=Evidence.MEASURED,
        sample=f"{values['train_rows']:,} training and {values['held_out_rows']:,} held-out rows, 1 seed",
        summary=_summary(outcomes, runs, lora, metric),
        values=values | {"training_seconds": seconds},
        blocks=[_method_table(context, runs, outcomes, values), _validation_curve(runs), _trial_table(context)],
    )


def _train_all(context: AuditContext) -> dict[str, Sweep]:
    """One sweep a method; prompts of other lengths take the learning rate that the middle length chose."""
    settings = context.settings
    middle = settings.prefix_tokens
    configs = [context.config("prompt", tokens=middle, init=METHODS["prompt"].inits[0])]
    configs += [
        context.config("prompt", tokens=tokens, init=METHODS["prompt"].inits[0])
        for tokens in settings.tokens
        if tokens != middle
    ]
    configs.append(context.config("prefix", tokens=middle, init=METHODS["prefix"].inits[0]))
    configs.append(context.config("lora", rank=settings.rank, init=METHODS["lora"].inits[0]))
    chosen: float | None = None
    for config in configs:
        is_other_length = config.method == "prompt" and chosen is not None
        rates = [chosen] if is_other_length and chosen is not None else None
        found = sweep(context.task, config, context.store, context.progress, rates=rates)
        chosen = found.best.config.learning_rate if config.method == "prompt" else chosen
        context.sweeps[config.label] = found
    return {name: entry for name, entry in context.sweeps.items() if name != "head"}


def _score_own(context: AuditContext) -> Outcomes:
    """The user's adapter on the held-out rows, read through the control's head."""
    assert context.adapter is not None
    objective = context.task.objective()
    with attach(context.model, context.adapter) as joined:
        return context.task.evaluate("held_out", objective, joined)


def _largest_rate(context: AuditContext, method: str) -> float:
    """The largest learning rate that was tried for a method in more than one trial; infinite without trials."""
    trials = [trial for entry in context.sweeps.values() for trial in entry.trials if trial.config.method == method]
    return max((trial.config.learning_rate for trial in trials), default=math.inf)


def _method_values(run: Run, largest_rate: float) -> dict[str, Any]:
    """The numbers of one run that rules read."""
    assert run.held_out is not None
    losses = [look.validation_loss for look in run.curve]
    return _score_values(run.held_out) | {
        "method": run.config.method,
        "tokens": run.config.tokens,
        "rank": run.config.rank,
        "init": run.config.init,
        "learning_rate": run.config.learning_rate,
        "parameters": run.parameters,
        "status": run.status,
        "seconds": run.seconds,
        "steps": run.steps,
        "train_loss": run.train_loss if math.isfinite(run.train_loss) else None,
        "validation_loss": run.validation.mean_loss,
        "start_loss": losses[0],
        "rate_at_edge": run.config.learning_rate >= largest_rate,
        "still_falling": max(0.0, losses[-2] - losses[-1]) if len(losses) > 2 else 0.0,
    }


def _score_values(outcomes: Outcomes) -> dict[str, Any]:
    return {
        "loss": outcomes.mean_loss,
        "accuracy": outcomes.accuracy,
        "accuracy_error": outcomes.standard_error(),
        "all_right": outcomes.all_right,
    }


def _paired(first: Outcomes, second: Outcomes, metric: str) -> dict[str, float]:
    """How much better `first` is than `second` on the same rows, with a 90 % interval (normal approximation).

    In accuracy, or in nats per answer saved. Both are ratios of sums over examples, so the standard error is that of
    the residuals around the ratio.
    """
    gain = (first.right - second.right if metric == "accuracy" else second.loss - first.loss).double()
    answers = first.answers.double()
    ratio = float(gain.sum() / answers.sum())
    error = float((gain - ratio * answers).std() / answers.mean() / math.sqrt(len(gain)))
    return {
        "gain": ratio,
        "low": ratio - _NORMAL_90 * error,
        "high": ratio + _NORMAL_90 * error,
        "error": error,
    }


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
        "count the head, which all share. Train loss is the mean over the last stretch of training.",
    )


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


def _summary(outcomes: dict[str, Outcomes], runs: dict[str, Run], lora: str, metric: str) -> str:
    def score(name: str) -> str:
        found = outcomes[name]
        return f"{found.accuracy:.1%}" if metric == "accuracy" else f"{found.mean_loss:.3f} nats per token"

    soft = [name for name, run in runs.items() if run.config.method in ("prompt", "prefix")]
    best = max(soft, key=lambda n: outcomes[n].accuracy if metric == "accuracy" else -outcomes[n].mean_loss)
    control = "the head alone" if metric == "accuracy" else "the bare model"
    return (
        f"Best soft prompt ({best}): {score(best)}. LoRA: {score(lora)}. {control.capitalize()}: {score('head')}."
        + (f" Your adapter: {score('yours')}." if "yours" in outcomes else "")
    )
