"""Matched training: prompts, a prefix and LoRA on the same rows with the same steps, and the differences between them;
whether that training finds a prompt known to exist, and what it does to other text.
"""

from collections.abc import Mapping, Sequence

from promptreach.audit.check import Shown
from promptreach.audit.context import AuditContext
from promptreach.diagnosis.controls import OneLayerNumbers, PlantedNumbers, SeedNumbers
from promptreach.diagnosis.experiment import Measured
from promptreach.diagnosis.measures.comparison import held_out
from promptreach.diagnosis.numbers import USER, ForgettingNumbers, Scores, TrainingNumbers
from promptreach.report.findings import Cell, Curve, Series, Table
from promptreach.training.runs import Run
from promptreach.training.task.deciding import metric_faults
from promptreach.training.task.metric_names import SCORE_METRICS, in_words
from promptreach.training.task.metrics import is_known, score


def show(context: AuditContext, found: Measured[TrainingNumbers]) -> Shown:
    """Every method of the budget on the rows judged, its training, and the learning rates tried for it."""
    numbers = found.numbers
    scores: dict[str, Scores] = {**numbers.methods, **numbers.in_context}
    if numbers.user is not None:
        scores[USER] = numbers.user
    methods, curve = _method_table(context, numbers, scores), _validation_curve(context.runs)
    summary = _summary(context, numbers, scores)
    every = [_metric_table(context)] if context.kind is not None else []
    return Shown(summary, [methods, *every, curve, _trial_table(context)])


def show_seeds(context: AuditContext, found: Measured[SeedNumbers]) -> Shown:
    """The score of every winner by seed, and the largest difference."""
    numbers, in_points = found.numbers, context.metric != "loss"
    table = Table(
        title="The winners, seed by seed",
        columns=["method", *(f"seed {seed}" for seed in numbers.seeds), "largest difference"],
        rows=[[_name(context, name), *scores, max(scores) - min(scores)] for name, scores in numbers.scores.items()],
        note=f"Held-out {in_words(context.metric)}." if in_points else "Held-out loss, nats per token.",
    )
    worth = f"{100 * numbers.worth:.1f} points" if in_points else f"{numbers.worth:.3f} nats"
    return Shown(
        f"With the same settings and rows a seed is worth up to {worth} here; the margin is at least that.", [table]
    )


def show_one_layer(context: AuditContext, found: Measured[OneLayerNumbers]) -> Shown:
    """The part of LoRA's doing that no prompt imitates."""
    numbers = found.numbers
    return Shown(
        f"Where the answer is read, LoRA changes the heads of the model's one layer by {numbers.change:.3g} (root mean "
        f"square); no slots of any number come closer to that than {numbers.floor:.3g}, {numbers.share:.0%} of it."
    )


def show_planted(context: AuditContext, found: Measured[PlantedNumbers]) -> Shown:
    """The planted prompt beside the trained one."""
    numbers = found.numbers
    scores = {"without a prompt": numbers.control, "trained": numbers.student, "planted": numbers.possible}
    table = Table(
        title="The planted prompt and the trained one",
        columns=["", numbers.unit],
        rows=[[name, score] for name, score in scores.items()],
        note="The planted prompt wrote the answers, so a prompt that gives them all exists.",
    )
    return Shown(
        f"A prompt of {numbers.tokens} vocabulary rows was planted, and {numbers.steps} steps at rate "
        f"{numbers.learning_rate:.2g} found {min(1.0, numbers.share):.0%} of what it gains.",
        [table],
    )


def show_forgetting(context: AuditContext, found: Measured[ForgettingNumbers]) -> Shown:
    """The loss of language modelling on plain text, with and without each adapter."""
    rise = found.numbers.rise
    worst = max(rise, key=lambda name: rise[name].gain)
    table = Table(
        title="Rise of the loss on plain text",
        columns=["adapter", "nats per token", "from", "to"],
        rows=[[name, change.gain, change.low, change.high] for name, change in rise.items()],
        note="90 % intervals. A rise is what the model forgets while the adapter is on; off, it is as it was.",
    )
    return Shown(
        f"Plain text costs the bare model {found.numbers.bare_loss:.3f} nats per token; {worst} changes that most, "
        f"by {rise[worst].gain:+.3f}.",
        [table],
    )


def _method_table(context: AuditContext, numbers: TrainingNumbers, scores: Mapping[str, Scores]) -> Table:
    scale, unit = (1.0, "nats per token saved")
    if numbers.metric != "loss":
        scale, unit = 100.0, f"points of {in_words(numbers.metric)}"
    beside = [f"held-out {in_words(numbers.beside)}"] if numbers.beside else []
    share = context.kind.accuracy if context.kind else "accuracy"
    shares = [f"held-out {share}"] if share else []
    columns = ["method", *beside, *shares, "held-out loss", f"against LoRA ({unit}, 90 %)", "train loss"]
    columns += ["parameters", "learning rate", "best step", "start", "seconds"]
    rows: list[list[Cell]] = []
    for name, found in scores.items():
        words, interval = numbers.in_context.get(name), None
        against = numbers.against_lora.get(name) if words is None else words.against_lora
        if against:
            gain, low, high = scale * against.gain, scale * against.low, scale * against.high
            interval = f"{gain:+.2g} ({low:+.2g} to {high:+.2g})"
        value: list[Cell] = [None if found.value is None else round(found.value, 4)] if beside else []
        right: list[Cell] = [round(found.accuracy, 4)] if shares else []
        shown: list[Cell] = [_name(context, name), *value, *right, found.loss, interval]
        run = numbers.methods.get(name)
        if run is None:
            shown += [None] * 6
        else:
            shown += [run.train_loss, run.parameters, run.learning_rate or None, run.best_step, run.init]
            shown += [round(run.seconds, 1)]
        rows.append(shown)
    rows += [
        [_name(context, method), f"not on this architecture, because {reason}", *[None] * (len(columns) - 2)]
        for method, reason in numbers.not_here.items()
    ]
    return Table(
        title="Methods side by side",
        columns=columns,
        rows=rows,
        highlight=list(scores).index(_best(numbers, list(numbers.methods))),
        note="Same rows, same steps, same starting head; the best validation state of each run. Parameters do not "
        "count the head, which all share. Train loss is the mean over the last stretch of training."
        + _left_out(numbers.not_needed)
        + _in_context(numbers),
    )


def _metric_table(context: AuditContext) -> Table:
    """Every metric of the kind of task on the rows judged, of every run."""
    kind, data = context.kind, context.data
    names = [one for one in SCORE_METRICS if kind is not None and one in kind.metrics and not metric_faults(one, data)]
    outcomes = {_name(context, name): held_out(run) for name, run in context.runs.items()}
    rows: list[list[Cell]] = [
        [name, *(round(score(metric, found, context.positive), 4) for metric in names)]
        for name, found in outcomes.items()
        if all(is_known(metric, found) for metric in names)
    ]
    decides = in_words(context.metric)
    labels = getattr(data, "label_names", ())
    about = f" F1 and average precision are about {labels[context.positive]!r}." if "f1" in names else ""
    note = f"The same answers by other measures; {decides} decides here.{about}"
    return Table(title="Other metrics", columns=["method", *map(in_words, names)], rows=rows, note=note)


def _best(numbers: TrainingNumbers, names: Sequence[str]) -> str:
    """The run with the best score among `names`."""
    return max(names, key=lambda name: _value(numbers, numbers.methods[name]))


def _value(numbers: TrainingNumbers, found: Scores) -> float:
    """The score by which runs are compared; larger is better."""
    if numbers.metric == "loss":
        return -found.loss
    return found.accuracy if numbers.metric == "accuracy" or found.value is None else found.value


def _left_out(not_needed: Mapping[str, str]) -> str:
    """What was not trained, and why, one sentence a reason."""
    return "".join(
        f" Not trained: {', '.join(name for name, why in not_needed.items() if why == reason)} ({reason})."
        for reason in dict.fromkeys(not_needed.values())
    )


def _in_context(numbers: TrainingNumbers) -> str:
    """What stands in front of the rows of the bare model, and what that costs."""
    if not numbers.in_context:
        return ""
    sizes = ", ".join(f"{found.median_tokens:,} ({name})" for name, found in numbers.in_context.items())
    text = f" With words in front of them rows have this many tokens in the middle: {sizes}."
    cut = {name: found.cut_rows for name, found in numbers.in_context.items() if found.cut_rows}
    cuts = ", ".join(f"{count:,} ({name})" for name, count in cut.items())
    return text + (f" Rows that did not fit and lost their beginning: {cuts}." if cut else "")


def _name(context: AuditContext, name: str) -> str:
    if name == "head":
        return "head alone" if context.kind is not None else "bare model"
    if name == USER and context.user_settings is not None:
        return f"your {context.user_settings.method}".replace("lora", "LoRA")
    return name.replace("lora", "LoRA")


def _validation_curve(runs: Mapping[str, Run]) -> Curve:
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


def _summary(context: AuditContext, numbers: TrainingNumbers, scores: Mapping[str, Scores]) -> str:
    by_label = numbers.metric != "loss"
    share = "" if context.is_classification or context.kind is None else f" {context.kind.accuracy}"

    def score(name: str) -> str:
        found = scores[name]
        if numbers.metric in ("accuracy", "loss"):
            return f"{found.accuracy:.1%}{share}" if by_label else f"{found.loss:.3f} nats per token"
        return f"{in_words(numbers.metric)} {_value(numbers, found):.3f}"

    soft = [name for name, run in numbers.methods.items() if run.method in ("prompt", "prefix")]
    best = _best(numbers, soft) if soft else ""
    control = "The bare model" if context.kind is None else "The head alone"
    parts = [f"Best soft prompt ({best}): {score(best)}." if soft else "No soft prompt on this architecture."]
    if not soft and numbers.left_out:
        parts = []
    parts += [f"LoRA: {score(numbers.lora)}."] if numbers.lora else []
    parts.append(f"{control}: {score('head')}.")
    parts += [f"Your adapter: {score(USER)}."] if USER in scores else []
    parts += [f"Left out by choice: {', '.join(numbers.left_out)}."] if numbers.left_out else []
    if soft:
        parts += [f"No {method} on this architecture, because {reason}." for method, reason in numbers.not_here.items()]
    return " ".join(parts)
