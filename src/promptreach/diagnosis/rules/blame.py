"""Rules about the user's own training: what it lost, and which of its settings lost it."""

from collections.abc import Mapping
from typing import Any

from promptreach.certificate import Evidence
from promptreach.diagnosis.rules.measurements import FORMS, Measurements, sentence, settings_of, unit_of
from promptreach.diagnosis.verdict import Judgement
from promptreach.report.verdict import Reason, TuningVerdict

PLACES = {
    "mean": "the mean over the content tokens",
    "first": "the first position",
    "last": "the last content token",
}
"""Where a head may read, in words."""

_NAMES = {"pooling": "The read-out", "init": "The start", "learning_rate": "The learning rate", "steps": "The steps"}
_INITS = {"vocabulary": "rows of the vocabulary", "text": "real text", "random": "PEFT's random default"}


def blame_training(seen: Measurements) -> Judgement | None:
    """OPTIMISER or MORE_TOKENS: the user's own falls short, and the same form trained here does not.

    The gap has two parts: what other settings gain at the user's own size, and what a larger size gains on top of that.
    The larger one is the verdict; a LoRA whose rank is too low passes, since the question is what prompts can do.
    """
    own = seen.yours
    if own is None:
        return None
    fitting = seen.lora if own["method"] == "lora" else seen.fitting() or _nearly_fitting(seen)
    if fitting is None or not _is_short(seen, fitting):
        return None
    over = seen.training["against_yours"]
    same = [name for name, run in seen.methods(own["method"]).items() if _is_no_larger(run, own)]
    here = max(same, key=lambda name: over[name]["gain"], default=None)
    by_settings = max(0.0, over[here]["gain"]) if here else 0.0
    if here is not None and (seen.keeps_up(here) or by_settings >= over[fitting]["gain"] / 2):
        return _optimiser(seen, here if seen.keeps_up(here) else fitting)
    return None if own["method"] == "lora" else _more_tokens(seen, own, fitting)


def _nearly_fitting(seen: Measurements) -> str | None:
    """The best run of the user's form where it is not certainly worse than LoRA, and closer to it than to theirs."""
    name = seen.best_soft()
    if name is None or seen.trails(name):
        return None
    is_closer = seen.training["against_yours"][name]["gain"] > -seen.against_lora(name)["gain"]
    return name if is_closer else None


def training_reasons(seen: Measurements) -> list[Reason]:
    """What the user's own settings cost, the costliest first; empty where nothing was brought or nothing is lost."""
    own = seen.yours
    if own is None:
        return []
    lost = [(step["worth"]["gain"], _step_text(seen, step), "attempt") for step in seen.attempt.get("path", ())]
    lost = [entry for entry in lost if entry[0] > seen.margin / 4]
    lost += _unknown_settings(seen)
    reasons = [
        Reason(text=text, evidence=Evidence.MEASURED, check=check)
        for _, text, check in sorted(lost, key=lambda entry: -entry[0])
    ]
    if own["status"] == "diverged":
        at = seen.attempt["diverged_at"]
        text = f"Its loss stopped being a number after {at} steps: the learning rate is too large for this start."
        reasons.insert(0, Reason(text=text, evidence=Evidence.MEASURED, check="attempt"))
    return reasons + _signs(seen)


def _optimiser(seen: Measurements, fitting: str) -> Judgement:
    run = seen.training["methods"][fitting]
    reasons = training_reasons(seen)
    reasons.append(
        Reason(
            text=f"{seen.your} reaches {seen.score('yours')}; the {fitting} trained here reaches {seen.score(fitting)} "
            f"on the same {seen.rows}: {seen.gain(seen.training['against_yours'][fitting])}.",
            evidence=Evidence.MEASURED,
            check="training",
        )
    )
    if run["method"] != "lora":
        reasons.append(
            Reason(
                text=f"{sentence(fitting)} against LoRA: {seen.gain(seen.against_lora(fitting))}.",
                evidence=Evidence.MEASURED,
                check="training",
            )
        )
    place = seen.reading.get("chosen")
    reads = f", its head reading {PLACES[place]}" if place else ""
    return Judgement(
        TuningVerdict.OPTIMISER,
        Evidence.MEASURED,
        f"{sentence(FORMS[run['method']])} fits; the training of yours missed it. {sentence(settings_of(run))} reaches "
        f"{seen.score(fitting)}.",
        tuple(reasons),
        fitting,
        f"Train again with {settings_of(run)} for {run['steps']} steps{reads}. That run was made and is verified.",
    )


def _more_tokens(seen: Measurements, own: Mapping[str, Any], fitting: str) -> Judgement:
    form = seen.methods(own["method"])
    enough = min((name for name in form if seen.keeps_up(name)), key=lambda name: form[name]["tokens"], default=fitting)
    run = form[enough]
    return Judgement(
        TuningVerdict.MORE_TOKENS,
        Evidence.MEASURED,
        f"{own['tokens']} {unit_of(own['method'])} are too few: {run['tokens']} reach {seen.score(enough)}, yours "
        f"{seen.score('yours')}.",
        (
            Reason(
                text=f"{sentence(enough)} against yours: {seen.gain(seen.training['against_yours'][enough])}; at "
                f"{own['tokens']} {unit_of(own['method'])} no setting tried keeps up.",
                evidence=Evidence.MEASURED,
                check="training",
            ),
            *training_reasons(seen),
        ),
        enough,
        f"Train {settings_of(run)}.",
    )


def _is_short(seen: Measurements, fitting: str) -> bool:
    assert seen.yours is not None
    gap = seen.training["against_yours"][fitting]["low"]
    return bool(seen.yours["status"] == "diverged" or gap > seen.margin / 2)


def _is_no_larger(run: Mapping[str, Any], own: Mapping[str, Any]) -> bool:
    return bool(run["tokens"] <= own["tokens"] and run["rank"] <= own["rank"])


def _step_text(seen: Measurements, step: Mapping[str, Any]) -> str:
    def said(value: Any) -> str:
        if step["setting"] == "pooling":
            return PLACES[value]
        return (
            _INITS[value] if step["setting"] == "init" else f"{value:.2g}" if isinstance(value, float) else f"{value}"
        )

    if seen.yours is not None and seen.yours["kind"] == "adapter":
        return (
            f"The read-out: the same adapter through a linear head on {said(step['after'])}, instead of its own at "
            f"{said(step['before'])}, is worth {seen.gain(step['worth'])}."
        )
    return (
        f"{_NAMES[step['setting']]}: {said(step['after'])} instead of {said(step['before'])} is worth "
        f"{seen.gain(step['worth'])}."
    )


def _unknown_settings(seen: Measurements) -> list[tuple[float, str, str]]:
    """What is left of an adapter's shortfall when all that is known of its training is mended."""
    own = seen.yours
    if own is None or own["kind"] != "adapter" or not seen.attempt:
        return []
    form = seen.methods(own["method"])
    same = [name for name, run in form.items() if (run["tokens"], run["rank"]) == (own["tokens"], own["rank"])]
    if not same:
        return []
    whole = seen.training["against_yours"][same[0]]
    rest = whole["gain"] - seen.attempt["whole"]["gain"]
    if rest <= seen.margin / 2:
        return []
    amount = f"{100 * rest:.1f} points" if seen.metric == "accuracy" else f"{rest:.3f} nats"
    text = f"How it was trained (start, rate or steps, which an adapter does not tell) accounts for {amount}."
    return [(rest, text, "training")]


def _signs(seen: Measurements) -> list[Reason]:
    """What is odd about the user's own, without a number of its worth."""
    found = []
    if seen.collapse.get("collapsed"):
        found.append(
            Reason(
                text=f"It puts {seen.collapse['share']:.0%} of the rows into one class, {seen.collapse['class']!r} "
                f"(true of {seen.collapse['true_share']:.0%}).",
                evidence=Evidence.MEASURED,
                check="collapse",
            )
        )
    geometry = seen.initialisation.get("geometry", {})
    looks = {"Your virtual tokens are": "your prompt"}
    # Only a prompt starts as vectors at the input: a prefix has starts of the same names and other lengths.
    if seen.yours is not None and seen.yours["method"] == "prompt":
        looks["Its virtual tokens start"] = f"{seen.attempt.get('settings', {}).get('init')} (start)"
    for text, key in looks.items():
        if key in seen.initialisation.get("far_out", ()):
            found.append(
                Reason(
                    text=f"{text} {geometry[key]['norm_ratio']:.1f} times as long as the median vocabulary row.",
                    evidence=Evidence.MEASURED,
                    check="initialisation",
                )
            )
    return found
