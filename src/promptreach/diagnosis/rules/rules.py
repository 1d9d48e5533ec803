"""The rules, from numbers to a verdict. They read records and never measure; each returns a judgement or passes.

The order of `RULES` is the argument: first whether anything was measured, then whether the data allows any method, then
whether the user's own training is what falls short, then whether a soft prompt keeps up with LoRA, and only when a real
gap remains what binds. A gap counts as real, or as absent, by the paired interval on the rows judged: absent if all of
it lies above minus the margin, real if all of it lies below minus half the margin; anything in between is UNDECIDED.
Nothing here calls a failed optimiser an impossibility: the verdicts about form and tokens are MEASURED, on the sizes
and learning rates that were tried, and the form is blamed only where this training finds a prompt known to exist.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from promptreach.certificate import Evidence
from promptreach.diagnosis.measures.comparison import NORMAL_90
from promptreach.diagnosis.numbers import (
    USER,
    AttemptNumbers,
    BareNumbers,
    CollapseNumbers,
    DataNumbers,
    PlantedNumbers,
    PoolingNumbers,
    StartNumbers,
    TrainingNumbers,
    numbers_of,
)
from promptreach.diagnosis.rules._blame import blame_training, training_reasons
from promptreach.diagnosis.rules._unlearnable import conflicting_completions, conflicting_labels, nothing_learnt
from promptreach.diagnosis.rules.measurements import FORMS, LENGTH_HELPS, Measurements, sentence, settings_of, unit_of
from promptreach.diagnosis.verdict import Judgement, measured, undecided
from promptreach.report.verdict import Reason, TuningVerdict

STILL_FALLING = 0.02
"""Nats by which the validation loss fell over the last quarter of a training run that was not done."""
LONGER = 4.0
"""Falling on as in the last quarter for as long again as the whole training: the gap that this would close is open."""
LENGTH_CLOSES = 0.1
"""The share of the shorter prompt's gap to LoRA that the longer one closes where tokens still bind."""
FOUND = 0.5
"""The share of a planted prompt's gain from which a training is said to find prompts that exist."""


def judge(found: Collection[object], broken: Sequence[Reason] = ()) -> Judgement:
    """The first rule that applies decides.

    Args:
        found: the records of `promptreach.diagnosis.numbers` that were measured, in any order; others are not read.
        broken: why those that a verdict needs are missing.
    """
    data, training = numbers_of(found, DataNumbers), numbers_of(found, TrainingNumbers)
    if broken or data is None:
        return nothing_measured(tuple(broken))
    proved = conflicting_labels(data)
    if proved is not None or training is None:
        return proved or nothing_measured(())
    seen = Measurements(
        data,
        training,
        bare=numbers_of(found, BareNumbers),
        start=numbers_of(found, StartNumbers),
        planted=numbers_of(found, PlantedNumbers),
        attempt=numbers_of(found, AttemptNumbers),
        collapse=numbers_of(found, CollapseNumbers),
        pooling=numbers_of(found, PoolingNumbers),
    )
    judgement = next(judgement for rule in RULES if (judgement := rule(seen)) is not None)
    # What the user's own settings cost is worth knowing whatever the verdict.
    also = tuple(reason for reason in training_reasons(seen) if reason not in judgement.reasons)
    return replace(judgement, reasons=judgement.reasons + also)


def depends_on(name: str, found: Collection[object]) -> bool:
    """Whether the verdict on `found` rests on a measurement of that name, which may not have been made yet."""
    return any(reason.check == name for reason in judge(found).reasons)


def nothing_measured(reasons: tuple[Reason, ...]) -> Judgement:
    """UNDECIDED: a measurement that every verdict needs is missing."""
    return undecided(
        "What a verdict needs could not be measured.", reasons, "Mend what the failed checks report and run it again."
    )


def soft_prompt_keeps_up(seen: Measurements) -> Judgement | None:
    """FITS: the interval of the difference to LoRA lies above minus the margin."""
    name = seen.fitting()
    if name is None:
        return _user_keeps_up(seen)
    run, control = seen.runs[name], seen.training.against_head[name]
    reasons = [
        measured(f"{sentence(name)} against LoRA on the same {seen.rows}: {seen.gain(seen.against_lora(name))}."),
        measured(f"{sentence(name)} against {seen.control}: {seen.gain(control)}."),
    ]
    prompts = seen.methods("prompt")
    if run.method == "prefix" and prompts:
        best = max(prompts, key=lambda other: seen.against_lora(other).gain)
        text = f"A prompt at the input falls short of that: {best} against LoRA {seen.gain(seen.against_lora(best))}."
        reasons.append(measured(text))
    reasons += _start_reason(seen)
    if control.low <= 0:
        return _nothing_gained(seen, name, reasons)
    return Judgement(
        TuningVerdict.FITS,
        Evidence.MEASURED,
        f"{sentence(FORMS[run.method])} fits: {settings_of(run)} reaches {seen.score(name)}, LoRA "
        f"{seen.score(seen.lora)}, {seen.control} {seen.score('head')}.",
        tuple(reasons),
        name,
        f"Train {settings_of(run)}; the adapter trained here comes with this report.",
    )


def _user_keeps_up(seen: Measurements) -> Judgement | None:
    """FITS: what the user brought is as good as LoRA, though what was trained here is not."""
    if seen.user is None or seen.user.method == "lora" or not seen.keeps_up(USER):
        return None
    return Judgement(
        TuningVerdict.FITS,
        Evidence.MEASURED,
        f"{seen.your} fits: it reaches {seen.score(USER)}, LoRA {seen.score(seen.lora)}.",
        (measured(f"{seen.your} against LoRA on the same {seen.rows}: {seen.gain(seen.against_lora(USER))}."),),
        None,
        "Keep it; no setting tried here did better.",
    )


def _nothing_gained(seen: Measurements, name: str, reasons: list[Reason]) -> Judgement:
    """FITS, but not worth it: the prompt or prefix is as good as LoRA and no better than the control."""
    form = FORMS[seen.runs[name].method]
    lora = seen.training.against_head[seen.lora]
    rival = f"LoRA ({seen.score(seen.lora)}) neither"
    advice = f"Take {seen.control}, and tune only if more rows or a longer training show a gain."
    if lora.low > 0:
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
    if name is None and {"prompt", "prefix"} <= seen.training.not_here.keys():
        return undecided(
            "This architecture takes neither a prompt nor a prefix.",
            tuple(
                measured(f"No {method} on this architecture, because {seen.training.not_here[method]}.")
                for method in ("prompt", "prefix")
            ),
            "Take LoRA, or the same task on a model that reads embeddings.",
            chosen=seen.lora,
        )
    if name is None:
        return undecided(
            "No soft prompt finished training.",
            (measured("Every prompt and prefix diverged."),),
            "Give a smaller learning rate, or check the data for extreme inputs.",
        )
    if seen.trails(name):
        return None
    against = seen.against_lora(name)
    # The interval narrows with the square root of the rows; this many would bring its width under the margin.
    needed = seen.training.held_out_rows * max(2.0, (2 * NORMAL_90 * against.error / seen.margin) ** 2)
    return undecided(
        f"{sentence(name)} is {seen.gain(against)} from LoRA: too close to call.",
        (measured(f"The interval reaches from clearly worse to as good (margin {seen.margin_text})."),),
        f"Use about {needed:,.0f} held-out rows, or train longer.",
        chosen=name,
    )


def training_not_done(seen: Measurements) -> Judgement | None:
    """UNDECIDED: there is a gap, but the best soft prompt was not trained as far or as fast as it could be."""
    name = seen.closest
    run, signs = seen.runs[name], []
    if run.still_falling >= STILL_FALLING and LONGER * run.still_falling >= seen.loss_gap(name):
        signs.append(measured(f"Its validation loss fell by {run.still_falling:.3f} nats over the last stretch."))
    if run.rate_at_edge:
        text = f"Its learning rate, {run.learning_rate:.2g}, was the largest tried and the best of them."
        signs.append(measured(text))
    advice = "Train longer, or over more learning rates; until then LoRA is the safer choice."
    return _gap_left_open(seen, "but its training was not at its best yet", signs, advice) if signs else None


def more_tokens_help(seen: Measurements) -> Judgement | None:
    """MORE_TOKENS: the loss still falls with the length, by a fair share of what is missing."""
    runs = list(seen.by_length().items())
    if len(runs) < 2:
        return None
    (_, shorter), (name, longest) = runs[-2:]
    saved = shorter.validation_loss - longest.validation_loss
    fitted = (shorter.train_loss or 0.0) - (longest.train_loss or 0.0)
    if min(saved, fitted) < LENGTH_HELPS or saved < LENGTH_CLOSES * (saved + seen.loss_gap(name)):
        return None
    other = ", or a prefix" if seen.form == "prompt" else ""
    return Judgement(
        TuningVerdict.MORE_TOKENS,
        Evidence.MEASURED,
        f"A longer {seen.form} is needed: from {shorter.tokens} to {longest.tokens} {unit_of(seen.form)} the "
        f"loss still fell by {saved:.3f} nats, and {name} {seen.falls_short(name)}.",
        (measured(f"Training and validation loss fall together with the length ({fitted:.3f} and {saved:.3f} nats)."),),
        name,
        f"Train {4 * longest.tokens} {unit_of(seen.form)}{other}, to see how the curve goes on.",
    )


def nothing_memorised(seen: Measurements) -> Judgement | None:
    """UNDECIDED: the rows were to be memorised, and LoRA does not either."""
    if seen.has_memorised(seen.lora):
        return None
    return undecided(
        f"No method memorised the rows: LoRA reaches {seen.score(seen.lora)}.",
        (measured("What a larger update cannot do in these steps says nothing against prompts."),),
        "Train longer, or give LoRA a higher rank, until one method fits the rows.",
    )


def lengths_not_compared(seen: Measurements) -> Judgement | None:
    """UNDECIDED: there is a settled gap, but whether it closes with the length was not seen."""
    lengths = [run.tokens for run in seen.by_length().values()]
    if len(lengths) > 1:
        return None
    finished = ", ".join(map(str, lengths)) or "none"
    return _gap_left_open(
        seen,
        "and that may be its length as well as its form",
        [measured(f"Lengths of a {seen.form} that finished training: {finished}; a comparison needs two.")],
        f"Train a {seen.form} of another length as well, four times as long, say; LoRA is the safer choice until then.",
    )


def training_not_trusted(seen: Measurements) -> Judgement | None:
    """UNDECIDED: there is a settled gap, but this training does not find prompts that exist, or that is not known."""
    if seen.planted is None:
        text = "Whether this training finds prompts that exist was not measured."
        reason = Reason(text, Evidence.UNKNOWN, "planted")
    elif seen.planted.share >= FOUND:
        return None
    else:
        share = f"{max(0.0, seen.planted.share):.0%}"
        text = f"Of the gain of a prompt that was planted, and so exists, the same training found {share}."
        reason = measured(text, "planted")
    return _gap_left_open(
        seen,
        "and that may be its training as well as its form",
        [reason],
        "Train longer, until the planted prompt is found; a gap that is left then is the form's. LoRA is the safer "
        "choice until then.",
    )


def form_falls_short(seen: Measurements) -> Judgement:
    """FORM: a real gap to LoRA that neither length nor the tried learning rates close."""
    name, planted = seen.closest, seen.planted
    assert planted is not None  # or its training would not have been trusted
    prefixes = [other for other in seen.methods("prefix") if seen.keeps_up(other)]
    better = prefixes[0] if prefixes else seen.lora
    run = seen.runs[better]
    chosen = f"LoRA of rank {run.rank}" if run.method == "lora" else f"a prefix of {run.tokens} slots"
    lengths = ", ".join(str(run.tokens) for run in seen.by_length().values())
    return Judgement(
        TuningVerdict.FORM,
        Evidence.MEASURED,
        f"Use {chosen}: it reaches {seen.score(better)}, the best {seen.runs[name].method} ({name}) "
        f"{seen.score(name)}, at every length tried.",
        (
            measured(f"{sentence(name)} against LoRA: {seen.gain(seen.against_lora(name))}."),
            measured(
                f"At {seen.form} lengths {lengths} the loss no longer falls with the length, and training had settled."
            ),
            measured(
                f"Of what a planted prompt gains, the same training found {min(1.0, planted.share):.0%}.", "planted"
            ),
        ),
        better,
        f"Train {chosen} at learning rate {run.learning_rate:.2g}. This is measured on the sizes and rates above, not "
        "a proof that no prompt exists.",
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


def _gap_left_open(seen: Measurements, why: str, reasons: list[Reason], advice: str) -> Judgement:
    name = seen.closest
    headline = f"{sentence(name)} {seen.falls_short(name)}, {why}."
    return undecided(headline, tuple(reasons), advice, chosen=seen.lora)


def _start_reason(seen: Measurements) -> list[Reason]:
    """The reason why a run with PEFT's defaults would look worse, where that was measured."""
    if seen.start is None:
        return []
    starts = seen.start.prompt_start_loss
    damage = starts["random (start)"] - starts["vocabulary (start)"]
    if damage < STILL_FALLING:
        return []
    text = f"The start matters: PEFT's random start costs {damage:.3f} nats more than vocabulary rows before the first"
    return [measured(f"{text} step.", "initialisation")]
