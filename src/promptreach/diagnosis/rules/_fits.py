"""The rules about soft prompts that keep up: with LoRA, if LoRA was trained as well, and with the control."""

from promptreach.certificate import Evidence
from promptreach.diagnosis.measures.comparison import NORMAL_90
from promptreach.diagnosis.numbers import USER, Comparison
from promptreach.diagnosis.rules._length import closing_effect
from promptreach.diagnosis.rules.measurements import (
    FORMS,
    STILL_FALLING,
    Measurements,
    sentence,
    settings_of,
    size_of,
)
from promptreach.diagnosis.verdict import Judgement, measured, undecided
from promptreach.report.verdict import Reason, TuningVerdict
from promptreach.training.task.metric_names import in_words


def rival_not_trained(seen: Measurements) -> Judgement | None:
    """UNDECIDED, or MORE_TOKENS where length has an effect: a prompt keeps up with a LoRA that was not trained.

    It never left its start, or it falls on so fast that it would leave the prompts behind. Neither matters where no
    rival could be better by more than the margin.
    """
    name = seen.fitting()
    stuck = not seen.left_start(seen.lora)
    if name is None or seen.training.goal == "memorise" or not (stuck or seen.rival_falls_on):
        return None
    if seen.nothing_left or seen.is_perfect(name):
        return None
    run, effect = seen.runs[seen.lora], closing_effect(seen)
    why = f"LoRA fell by {run.still_falling:.3f} nats over its last stretch, faster than the prompts, and is not done."
    if stuck:
        why = f"LoRA never left its start ({seen.score(seen.lora)}; its best look is the one before any step)."
    if effect is not None:
        longer = seen.runs[effect.longer]
        against = seen.training.against_shorter[effect.longer][effect.shorter]
        return Judgement(
            TuningVerdict.MORE_TOKENS,
            Evidence.MEASURED,
            f"A longer {effect.form} does better still: {size_of(effect.form, longer.tokens)} reach "
            f"{seen.score(effect.longer)}, {seen.gain(against)} against {effect.shorter}; LoRA is no measure here.",
            (measured(why),),
            effect.longer,
            f"Train {size_of(effect.form, 4 * longer.tokens)}, to see how the curve goes on.",
        )
    return undecided(
        f"{sentence(name)} reaches {seen.score(name)}, and the rival it is measured by was not trained.",
        (measured(why, "training" if stuck else seen.more_steps),),
        "Train longer, or LoRA over more learning rates: to be as good as a run that was not trained says nothing.",
        chosen=name if seen.runs[name].best_step > 0 else None,
    )


def soft_prompt_keeps_up(seen: Measurements) -> Judgement | None:
    """FITS: the interval of the difference to LoRA lies above minus the margin."""
    name = seen.fitting()
    if name is None:
        return _user_keeps_up(seen) or _control_keeps_up(seen)
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
    if seen.neither_done(name):
        text = f"Neither was at its end: over the last stretch {name} still fell by {run.still_falling:.3f} nats"
        reasons.append(measured(f"{text}, LoRA by {seen.runs[seen.lora].still_falling:.3f}.", seen.more_steps))
    reasons += _start_reason(seen)
    # The fork between training and the control has the margin that the one between a prompt and LoRA has.
    if control.high <= seen.margin:
        return _nothing_gained(seen, name, reasons)
    if control.low <= seen.margin / 2:
        return _tie(seen, name, control, reasons)
    if run.best_step == 0:
        return undecided(
            f"{sentence(name)} does best at its start ({seen.score(name)}): no step of training improved on it.",
            tuple(reasons),
            "Train at smaller rates, or longer; as it stands there is nothing trained to recommend.",
        )
    return Judgement(
        TuningVerdict.FITS,
        Evidence.MEASURED,
        f"{sentence(FORMS[run.method])} fits: {settings_of(run)} reaches {seen.score(name)}, LoRA "
        f"{seen.score(seen.lora)}, {seen.control} {seen.score('head')}.",
        tuple(reasons),
        name,
        f"Train {settings_of(run)}, {seen.length_of_training(name)}; the adapter trained here comes with this report.",
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


def _control_keeps_up(seen: Measurements) -> Judgement | None:
    """FITS, but not worth it: no prompt keeps up with LoRA, and the control does; UNDECIDED where neither learnt."""
    lora = seen.training.against_lora.get("head")
    if lora is None or not seen.keeps_up("head") or seen.training.goal == "memorise":
        return None
    if not seen.methods("prompt", "prefix") or not (seen.left_start(seen.lora) or seen.nothing_left):
        return None
    if seen.hardly_learnt:
        return _hardly_learnt(seen)
    return Judgement(
        TuningVerdict.FITS,
        Evidence.MEASURED,
        f"{sentence(seen.control)} does this task already ({seen.score('head')}): no prompt trained here adds to it, "
        f"LoRA ({seen.score(seen.lora)}) neither.",
        (measured(f"{sentence(seen.control)} against LoRA on the same {seen.rows}: {seen.gain(lora)}."),),
        "head",
        f"Take {seen.control}, and tune only if more rows or a longer training show a gain.",
    )


def _hardly_learnt(seen: Measurements) -> Judgement:
    """UNDECIDED: nothing beats the control, which is far from what is possible, and LoRA does not fit its own rows."""
    rival = seen.runs[seen.lora]
    return undecided(
        f"{sentence(seen.control)} ({seen.score('head')}) is as good as LoRA ({seen.score(seen.lora)}), and fits "
        "even the rows that LoRA was trained on no worse: what longer training would reach is open.",
        (
            measured(
                f"LoRA's training loss is {rival.train_loss:.3f} after {rival.steps} steps, and "
                f"{seen.runs['head'].validation_loss:.3f} is left by {seen.control}.",
                seen.more_steps,
            ),
            measured(f"The same answer to every row is right on {seen.constant:.1%} of them.")
            if seen.metric == "accuracy"
            else measured(f"The best answer that ignores its input has {in_words(seen.metric)} {seen.constant:.3f}."),
        ),
        "Train longer, or give LoRA a higher rank or all linear layers, until one method fits the rows it is trained "
        "on; if none ever does, the texts tell no more than that.",
    )


def _nothing_gained(seen: Measurements, name: str, reasons: list[Reason]) -> Judgement:
    """FITS, but not worth it: the prompt or prefix is as good as LoRA and no better than the control."""
    if seen.hardly_learnt:
        return _hardly_learnt(seen)
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
        f"({seen.score(name)}) adds nothing beyond the margin to it, {rival}.",
        tuple(reasons),
        "head",
        advice,
    )


def _tie(seen: Measurements, name: str, control: Comparison, reasons: list[Reason]) -> Judgement:
    """FITS, and whether it is worth the training is open: the gain over the control may be within the margin or not."""
    run = seen.runs[name]
    needed = seen.training.held_out_rows * max(2.0, (2 * NORMAL_90 * control.error / seen.margin) ** 2)
    train = f"{settings_of(run)}, {seen.length_of_training(name)}" if run.best_step > 0 else "a prompt"
    return Judgement(
        TuningVerdict.FITS,
        Evidence.MEASURED,
        f"A tie: {FORMS[run.method]} fits ({seen.score(name)}), and {seen.control} ({seen.score('head')}) is so close "
        f"that the gain, {seen.gain(control)}, may be none.",
        (*reasons, measured(f"The interval reaches from within the margin ({seen.margin_text}) to beyond half of it.")),
        "head",
        f"Either will do: {seen.control}, which needs no training, or {train}. About {needed:,.0f} held-out rows would "
        "decide.",
    )


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
