"""From numbers to a verdict. Rules read numbers by name and never measure; each returns a judgement or passes.

The order of `RULES` is the argument: first whether anything was measured, then whether the data allows any method, then
whether the user's own training is what falls short, then whether a soft prompt keeps up with LoRA, and only when a real
gap remains what binds. A gap counts as real, or as absent, by the paired interval on the rows judged: absent if all of
it lies above minus the margin, real if all of it lies below minus half the margin; anything in between is UNDECIDED.
Nothing here calls a failed optimiser an impossibility: the verdicts about form and tokens are MEASURED, on the sizes
and learning rates that were tried, and the form is blamed only where this training finds a prompt known to exist.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from promptreach.certificate import Evidence
from promptreach.diagnosis.measures.comparison import NORMAL_90
from promptreach.diagnosis.rules.blame import blame_training, training_reasons
from promptreach.diagnosis.rules.measurements import FORMS, LENGTH_HELPS, Measurements, sentence, settings_of, unit_of
from promptreach.diagnosis.rules.unlearnable import conflicting_completions, conflicting_labels, nothing_learnt
from promptreach.diagnosis.verdict import Judgement, undecided
from promptreach.report.verdict import Reason, TuningVerdict

STILL_FALLING = 0.02
"""Nats by which the validation loss fell over the last quarter of a training run that was not done."""
LONGER = 4.0
"""Falling on as in the last quarter for as long again as the whole training: the gap that this would close is open."""
LENGTH_CLOSES = 0.1
"""The share of the shorter prompt's gap to LoRA that the longer one closes where tokens still bind."""
FOUND = 0.5
"""The share of a planted prompt's gain from which a training is said to find prompts that exist."""


def judge(values: Mapping[str, Mapping[str, Any]], broken: Sequence[Reason] = ()) -> Judgement:
    """The first rule that applies decides.

    Args:
        values: the numbers of each measurer that ran, by its name.
        broken: why those that a verdict needs did not run.
    """
    if broken or "data" not in values:
        return nothing_measured(tuple(broken))
    proved = conflicting_labels(values["data"])
    if proved is not None or "training" not in values:
        return proved or nothing_measured(())
    known = ("bare_model", "initialisation", "planted", "attempt", "collapse", "reading")
    given = {name.removesuffix("_model"): values.get(name, {}) for name in known}
    seen = Measurements(values["data"], values["training"], **given)
    judgement = next(judgement for rule in RULES if (judgement := rule(seen)) is not None)
    # What the user's own settings cost is worth knowing whatever the verdict.
    also = tuple(reason for reason in training_reasons(seen) if reason not in judgement.reasons)
    return replace(judgement, reasons=judgement.reasons + also)


def hangs_on(name: str, values: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether the verdict on `values` rests on a measurement of that name, which may not have been made yet."""
    return any(reason.check == name for reason in judge(values).reasons)


def nothing_measured(reasons: tuple[Reason, ...]) -> Judgement:
    """UNDECIDED: a measurement that every verdict needs is missing."""
    return undecided(
        "What a verdict needs could not be measured.", reasons, "Mend what the failed checks report and run it again."
    )


def soft_prompt_keeps_up(seen: Measurements) -> Judgement | None:
    """FITS: the interval of the difference to LoRA lies above minus the margin."""
    name = seen.fitting()
    if name is None:
        return _yours_keeps_up(seen)
    against = seen.training["against_lora"][name]
    control = seen.training["against_head"][name]
    run = seen.training["methods"][name]
    reasons = [
        Reason(
            text=f"{sentence(name)} against LoRA on the same {seen.rows}: {seen.gain(against)}.",
            evidence=Evidence.MEASURED,
            check="training",
        ),
        Reason(
            text=f"{sentence(name)} against {seen.control}: {seen.gain(control)}.",
            evidence=Evidence.MEASURED,
            check="training",
        ),
    ]
    prompts = seen.methods("prompt")
    if run["method"] == "prefix" and prompts:
        best = max(prompts, key=lambda n: seen.training["against_lora"][n]["gain"])
        reasons.append(
            Reason(
                text=f"A prompt at the input falls short of that: {best} against LoRA "
                f"{seen.gain(seen.training['against_lora'][best])}.",
                evidence=Evidence.MEASURED,
                check="training",
            )
        )
    reasons += _start_reason(seen)
    if control["low"] <= 0:
        return _nothing_gained(seen, name, reasons)
    return Judgement(
        TuningVerdict.FITS,
        Evidence.MEASURED,
        f"{sentence(FORMS[run['method']])} fits: {settings_of(run)} reaches {seen.score(name)}, LoRA "
        f"{seen.score(seen.lora)}, {seen.control} {seen.score('head')}.",
        tuple(reasons),
        name,
        f"Train {settings_of(run)}; the adapter trained here comes with this report.",
    )


def _yours_keeps_up(seen: Measurements) -> Judgement | None:
    """FITS: what the user brought is as good as LoRA, though what was trained here is not."""
    if seen.yours is None or seen.yours["method"] == "lora" or not seen.keeps_up("yours"):
        return None
    return Judgement(
        TuningVerdict.FITS,
        Evidence.MEASURED,
        f"{seen.your} fits: it reaches {seen.score('yours')}, LoRA {seen.score(seen.lora)}.",
        (
            Reason(
                text=f"{seen.your} against LoRA on the same {seen.rows}: {seen.gain(seen.against_lora('yours'))}.",
                evidence=Evidence.MEASURED,
                check="training",
            ),
        ),
        None,
        "Keep it; no setting tried here did better.",
    )


def _nothing_gained(seen: Measurements, name: str, reasons: list[Reason]) -> Judgement:
    """FITS, but not worth it: the prompt or prefix is as good as LoRA and no better than the control."""
    form = FORMS[seen.training["methods"][name]["method"]]
    lora = seen.training["against_head"][seen.lora]
    rival = f"LoRA ({seen.score(seen.lora)}) neither"
    advice = f"Take {seen.control}, and tune only if more rows or a longer training show a gain."
    if lora["low"] > 0:
        rival = f"LoRA reaches {seen.score(seen.lora)}, {seen.gain(lora)}"
        advice = f"Take {seen.control}, or LoRA if that gain matters; longer training may help the prompts."
    return Judgement(
        TuningVerdict.FITS,
        Evidence.MEASURED,
        f"{sentence(seen.control)} does this task already ({seen.score('head')}): {form} "
        f"({seen.score(name)}) adds nothing measurable to it, {rival}.",
        tuple(reasons),
        "head",
        advice,
    )


def gap_not_settled(seen: Measurements) -> Judgement | None:
    """UNDECIDED: the interval allows both "as good" and "worse"."""
    name = seen.best_soft()
    if name is None:
        return undecided(
            "No soft prompt finished training.",
            (Reason(text="Every prompt and prefix diverged.", evidence=Evidence.MEASURED, check="training"),),
            "Give a smaller learning rate, or check the data for extreme inputs.",
        )
    if seen.trails(name):
        return None
    against = seen.training["against_lora"][name]
    # The interval narrows with the square root of the rows; this many would bring its width under the margin.
    needed = seen.training["held_out_rows"] * max(2.0, (2 * NORMAL_90 * against["error"] / seen.margin) ** 2)
    return undecided(
        f"{sentence(name)} is {seen.gain(against)} from LoRA: too close to call.",
        (
            Reason(
                text=f"The interval reaches from clearly worse to as good (margin {seen.margin_text}).",
                evidence=Evidence.MEASURED,
                check="training",
            ),
        ),
        f"Use about {needed:,.0f} held-out rows, or train longer.",
        chosen=name,
    )


def training_not_done(seen: Measurements) -> Judgement | None:
    """UNDECIDED: there is a gap, but the best soft prompt was not trained as far or as fast as it could be."""
    name = seen.best_soft()
    assert name is not None
    run = seen.training["methods"][name]
    signs = []
    if run["still_falling"] >= STILL_FALLING and LONGER * run["still_falling"] >= seen.loss_gap(name):
        signs.append(f"Its validation loss fell by {run['still_falling']:.3f} nats over the last stretch.")
    if run["rate_at_edge"]:
        signs.append(f"Its learning rate, {run['learning_rate']:.2g}, was the largest tried and the best of them.")
    if not signs:
        return None
    return undecided(
        f"{sentence(name)} {seen.falls_short(name)}, but its training was not at its best yet.",
        tuple(Reason(text=text, evidence=Evidence.MEASURED, check="training") for text in signs),
        "Train longer, or over more learning rates; until then LoRA is the safer choice.",
        chosen=seen.lora,
    )


def more_tokens_help(seen: Measurements) -> Judgement | None:
    """MORE_TOKENS: the loss still falls with the length, by a fair share of what is missing."""
    runs = list(seen.by_length().items())
    if len(runs) < 2:
        return None
    (_, shorter), (name, longest) = runs[-2:]
    saved = shorter["validation_loss"] - longest["validation_loss"]
    fitted = (shorter["train_loss"] or 0.0) - (longest["train_loss"] or 0.0)
    if min(saved, fitted) < LENGTH_HELPS or saved < LENGTH_CLOSES * (saved + seen.loss_gap(name)):
        return None
    other = ", or a prefix" if seen.form == "prompt" else ""
    return Judgement(
        TuningVerdict.MORE_TOKENS,
        Evidence.MEASURED,
        f"A longer {seen.form} is needed: from {shorter['tokens']} to {longest['tokens']} {unit_of(seen.form)} the "
        f"loss still fell by {saved:.3f} nats, and {name} {seen.falls_short(name)}.",
        (
            Reason(
                text=f"Training and validation loss fall together with the length ({fitted:.3f} and {saved:.3f} nats).",
                evidence=Evidence.MEASURED,
                check="training",
            ),
        ),
        name,
        f"Train {4 * longest['tokens']} {unit_of(seen.form)}{other}, to see how the curve goes on.",
    )


def nothing_memorised(seen: Measurements) -> Judgement | None:
    """UNDECIDED: the rows were to be memorised, and LoRA does not either."""
    if seen.has_memorised(seen.lora):
        return None
    return undecided(
        f"No method memorised the rows: LoRA reaches {seen.score(seen.lora)}.",
        (
            Reason(
                text="What a larger update cannot do in these steps says nothing against prompts.",
                evidence=Evidence.MEASURED,
                check="training",
            ),
        ),
        "Train longer, or give LoRA a higher rank, until one method fits the rows.",
    )


def lengths_not_compared(seen: Measurements) -> Judgement | None:
    """UNDECIDED: there is a settled gap, but whether it closes with the length was not seen."""
    lengths = [run["tokens"] for run in seen.by_length().values()]
    if len(lengths) > 1:
        return None
    name = seen.best_soft()
    assert name is not None
    finished = ", ".join(map(str, lengths)) or "none"
    return undecided(
        f"{sentence(name)} {seen.falls_short(name)}, and that may be its length as well as its form.",
        (
            Reason(
                text=f"Lengths of a {seen.form} that finished training: {finished}; a comparison needs two.",
                evidence=Evidence.MEASURED,
                check="training",
            ),
        ),
        f"Train a {seen.form} of another length as well, four times as long, say; LoRA is the safer choice until then.",
        chosen=seen.lora,
    )


def training_not_trusted(seen: Measurements) -> Judgement | None:
    """UNDECIDED: there is a settled gap, but this training does not find prompts that exist, or that is not known."""
    share = seen.planted.get("share")
    if share is not None and share >= FOUND:
        return None
    name = seen.best_soft()
    assert name is not None
    text = "Whether this training finds prompts that exist was not measured."
    if share is not None:
        text = (
            f"Of the gain of a prompt that was planted, and so exists, the same training found {max(0.0, share):.0%}."
        )
    return undecided(
        f"{sentence(name)} {seen.falls_short(name)}, and that may be its training as well as its form.",
        (Reason(text=text, evidence=Evidence.MEASURED if share is not None else Evidence.UNKNOWN, check="planted"),),
        "Train longer, until the planted prompt is found; a gap that is left then is the form's. LoRA is the safer "
        "choice until then.",
        chosen=seen.lora,
    )


def form_falls_short(seen: Measurements) -> Judgement:
    """FORM: a real gap to LoRA that neither length nor the tried learning rates close."""
    name = seen.best_soft()
    assert name is not None
    prefixes = [other for other in seen.methods("prefix") if seen.keeps_up(other)]
    better = prefixes[0] if prefixes else seen.lora
    run = seen.training["methods"][better]
    lengths = ", ".join(str(run["tokens"]) for run in seen.by_length().values())
    return Judgement(
        TuningVerdict.FORM,
        Evidence.MEASURED,
        f"Use {_in_words(run)}: it reaches {seen.score(better)}, the best "
        f"{seen.training['methods'][name]['method']} ({name}) {seen.score(name)}, at every length tried.",
        (
            Reason(
                text=f"{sentence(name)} against LoRA: {seen.gain(seen.training['against_lora'][name])}.",
                evidence=Evidence.MEASURED,
                check="training",
            ),
            Reason(
                text=f"At {seen.form} lengths {lengths} the loss no longer falls with the length, and training had "
                "settled.",
                evidence=Evidence.MEASURED,
                check="training",
            ),
            Reason(
                text=f"Of what a planted prompt gains, the same training found {min(1.0, seen.planted['share']):.0%}.",
                evidence=Evidence.MEASURED,
                check="planted",
            ),
        ),
        better,
        f"Train {_in_words(run)} at learning rate {run['learning_rate']:.2g}. This is measured on the "
        "sizes and rates above, not a proof that no prompt exists.",
    )


Rule = Callable[[Measurements], Judgement | None]
RULES: tuple[Rule, ...] = (
    conflicting_completions,
    nothing_learnt,
    blame_training,
    soft_prompt_keeps_up,
    gap_not_settled,
    training_not_done,
    more_tokens_help,
    nothing_memorised,
    lengths_not_compared,
    training_not_trusted,
    form_falls_short,
)


def _in_words(run: Mapping[str, Any]) -> str:
    return f"LoRA of rank {run['rank']}" if run["method"] == "lora" else f"a prefix of {run['tokens']} slots"


def _start_reason(seen: Measurements) -> list[Reason]:
    """Why a run with PEFT's defaults would look worse, where that was measured."""
    starts = seen.initialisation.get("prompt_start_loss")
    if not starts:
        return []
    damage = starts["random (start)"] - starts["vocabulary (start)"]
    if damage < STILL_FALLING:
        return []
    return [
        Reason(
            text=f"The start matters: PEFT's random start costs {damage:.3f} nats more than vocabulary rows before the "
            "first step.",
            evidence=Evidence.MEASURED,
            check="initialisation",
        )
    ]
