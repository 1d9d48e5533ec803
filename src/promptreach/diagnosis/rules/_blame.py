"""Rules about the user's own training: what it lost, and which of its settings lost it."""

from promptreach.certificate import Evidence
from promptreach.diagnosis.numbers import USER, ChangedSetting, Setting, UserNumbers
from promptreach.diagnosis.rules.measurements import (
    FORMS,
    POOLINGS_IN_WORDS,
    Measurements,
    sentence,
    settings_of,
    size_of,
    unit_of,
)
from promptreach.diagnosis.verdict import Judgement, measured
from promptreach.report.verdict import Reason, TuningVerdict

_NAMES = {"pooling": "The read-out", "init": "The start", "learning_rate": "The learning rate", "steps": "The steps"}
_INITS = {"vocabulary": "rows of the vocabulary", "text": "real text", "random": "PEFT's random default"}


def blame_training(seen: Measurements) -> Judgement | None:
    """OPTIMISER or MORE_TOKENS: the user's own falls short, and the same form trained here does not.

    The gap has two parts: what other settings gain at the user's own size, and what a larger size gains on top of that.
    The larger one is the verdict; a LoRA whose rank is too low passes, since the question is what prompts can do.
    """
    user = seen.user
    if user is None:
        return None
    over = seen.training.against_user
    fitting = seen.lora if user.method == "lora" else seen.fitting() or _nearly_fitting(seen)
    if fitting is None or not (user.status == "diverged" or over[fitting].low > seen.margin / 2):
        return None
    runs = seen.methods(user.method)
    same = [name for name, run in runs.items() if run.tokens <= user.tokens and run.rank <= user.rank]
    here = max(same, key=lambda name: over[name].gain, default=None)
    by_settings = max(0.0, over[here].gain) if here else 0.0
    if here is not None and (seen.keeps_up(here) or by_settings >= over[fitting].gain / 2):
        return _optimiser(seen, here if seen.keeps_up(here) else fitting)
    return None if user.method == "lora" else _more_tokens(seen, user, fitting)


def _nearly_fitting(seen: Measurements) -> str | None:
    """The best run of the user's form where it is not certainly worse than LoRA, and closer to LoRA than to theirs."""
    name = seen.best_soft()
    if name is None or seen.trails(name):
        return None
    return name if seen.training.against_user[name].gain > -seen.against_lora(name).gain else None


def training_reasons(seen: Measurements) -> list[Reason]:
    """The costs of the user's own settings, the costliest first; empty where nothing was brought or nothing is lost."""
    user = seen.user
    if user is None:
        return []
    path = seen.attempt.path if seen.attempt else ()
    lost = [(step.worth.gain, measured(_step_text(seen, step), "attempt")) for step in path]
    lost = [entry for entry in lost if entry[0] > seen.margin / 4]
    lost += _unknown_settings(seen, user)
    reasons = [reason for _, reason in sorted(lost, key=lambda entry: -entry[0])]
    if user.status == "diverged" and seen.attempt:
        at = seen.attempt.diverged_at
        text = f"Its loss stopped being a number after {at} steps: the learning rate is too large for this start."
        reasons.insert(0, measured(text, "attempt"))
    return reasons + _signs(seen, user)


def _loses(seen: Measurements) -> bool:
    """Whether something trained here is surely better than the user's own."""
    over = seen.training.against_user.values()
    return seen.user is None or seen.user.status == "diverged" or any(found.low > 0 for found in over)


def _optimiser(seen: Measurements, fitting: str) -> Judgement:
    run = seen.runs[fitting]
    reasons = training_reasons(seen)
    reasons.append(
        measured(
            f"{seen.your} reaches {seen.score(USER)}; the {fitting} trained here reaches {seen.score(fitting)} "
            f"on the same {seen.rows}: {seen.gain(seen.training.against_user[fitting])}."
        )
    )
    if run.method != "lora":
        reasons.append(measured(f"{sentence(fitting)} against LoRA: {seen.gain(seen.against_lora(fitting))}."))
    if run.best_step == 0:
        reached = f"{seen.score(fitting)} before any step"
        advice = f"Take {seen.control}, or start there: {sentence(settings_of(run))} has {reached}, and none helped."
        return Judgement(
            TuningVerdict.OPTIMISER,
            Evidence.MEASURED,
            f"The training of yours did harm: {reached}, from {run.init} {unit_of(run.method)}.",
            tuple(reasons),
            "head" if seen.training.against_head[fitting].high <= seen.margin else None,
            advice,
        )
    reads = f", its head reading {POOLINGS_IN_WORDS[seen.pooling.chosen]}" if seen.pooling else ""
    return Judgement(
        TuningVerdict.OPTIMISER,
        Evidence.MEASURED,
        f"{sentence(FORMS[run.method])} fits; the training of yours missed it. {sentence(settings_of(run))} reaches "
        f"{seen.score(fitting)}.",
        tuple(reasons),
        fitting,
        f"Train again with {settings_of(run)} {seen.length_of_training(fitting)}{reads}. That run was made and is "
        "verified.",
    )


def _more_tokens(seen: Measurements, user: UserNumbers, fitting: str) -> Judgement:
    form = seen.methods(user.method)
    # The shortest that keeps up with LoRA and with all that are longer: LoRA need not be at its end.
    good = [name for name in form if seen.keeps_up(name) and seen.longer_gains(name) <= seen.margin]
    enough = min(good, key=lambda name: form[name].tokens, default=fitting)
    run, few = form[enough], size_of(user.method, user.tokens)
    is_or_are = "is" if user.tokens == 1 else "are"
    better = seen.gain(seen.training.against_user[enough])
    return Judgement(
        TuningVerdict.MORE_TOKENS,
        Evidence.MEASURED,
        f"{few} {is_or_are} too few: {run.tokens} reach {seen.score(enough)}, yours {seen.score(USER)}.",
        (
            measured(f"{sentence(enough)} against yours: {better}; at {few} no setting tried keeps up."),
            *training_reasons(seen),
        ),
        enough,
        f"Train {settings_of(run)}, {seen.length_of_training(enough)}.",
    )


def _step_text(seen: Measurements, step: ChangedSetting) -> str:
    def said(value: Setting) -> str:
        words = {"pooling": POOLINGS_IN_WORDS, "init": _INITS}.get(step.setting)
        if words is not None:
            return words[str(value)]
        return f"{value:.2g}" if isinstance(value, float) else f"{value}"

    worth = f"is worth {seen.gain(step.worth)}."
    if seen.user is not None and seen.user.kind == "adapter":
        return (
            f"The read-out: the same adapter through a linear head on {said(step.after)}, instead of its own at "
            f"{said(step.before)}, {worth}"
        )
    return f"{_NAMES[step.setting]}: {said(step.after)} instead of {said(step.before)} {worth}"


def _unknown_settings(seen: Measurements, user: UserNumbers) -> list[tuple[float, Reason]]:
    """The rest of an adapter's shortfall when all that is known of its training is mended."""
    if user.kind != "adapter" or seen.attempt is None:
        return []
    form = seen.methods(user.method)
    same = [name for name, run in form.items() if (run.tokens, run.rank) == (user.tokens, user.rank)]
    if not same:
        return []
    rest = seen.training.against_user[same[0]].gain - seen.attempt.whole.gain
    if rest <= seen.margin / 2:
        return []
    amount = f"{100 * rest:.1f} points" if seen.metric != "loss" else f"{rest:.3f} nats"
    text = f"How it was trained (start, rate or steps, which an adapter does not tell) accounts for {amount}."
    return [(rest, measured(text))]


def _signs(seen: Measurements, user: UserNumbers) -> list[Reason]:
    """Oddities of the user's own, without a number of their worth."""
    found = []
    if seen.collapse is not None and seen.collapse.collapsed:
        text = f"It puts {seen.collapse.share:.0%} of the rows into one class, {seen.collapse.favourite!r} "
        found.append(measured(f"{text}(true of {seen.collapse.true_share:.0%}).", "collapse"))
    # Long virtual tokens that do the task are no fault.
    if seen.start is None or not _loses(seen):
        return found
    looks = {"Your virtual tokens are": "your prompt"}
    # Only a prompt starts as vectors at the input: a prefix has starts of the same names and other lengths.
    if user.method == "prompt" and seen.attempt is not None:
        looks["Its virtual tokens start"] = f"{seen.attempt.settings.get('init')} (start)"
    for text, key in looks.items():
        if key in seen.start.far_out:
            length = f"{seen.start.geometry[key].norm_ratio:.1f} times as long as the median vocabulary row."
            found.append(measured(f"{text} {length}", "initialisation"))
    return found
