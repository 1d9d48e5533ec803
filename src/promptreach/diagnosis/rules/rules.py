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

from promptreach.diagnosis.circumstances import BroughtNumbers, PartsNumbers
from promptreach.diagnosis.controls import OneLayerNumbers, PlantedNumbers, SeedNumbers
from promptreach.diagnosis.measures.comparison import NORMAL_90
from promptreach.diagnosis.numbers import (
    AttemptNumbers,
    BareNumbers,
    CollapseNumbers,
    DataNumbers,
    PoolingNumbers,
    StartNumbers,
    TrainingNumbers,
    numbers_of,
)
from promptreach.diagnosis.rules._blame import blame_training, training_reasons
from promptreach.diagnosis.rules._fits import rival_not_trained, soft_prompt_keeps_up
from promptreach.diagnosis.rules._form import (
    form_falls_short,
    gap_left_open,
    harmed_by_start,
    harmed_reasons,
    lengths_not_compared,
    longest_not_done,
    training_not_trusted,
)
from promptreach.diagnosis.rules._known_faults import also_known, control_does, known_rows, one_label, rows_cut
from promptreach.diagnosis.rules._length import longer_fits, more_tokens_help
from promptreach.diagnosis.rules._own_adapter import own_beats_all, told_first
from promptreach.diagnosis.rules._unlearnable import conflicting_completions, conflicting_labels, nothing_learnt
from promptreach.diagnosis.rules.measurements import LONGER, STILL_FALLING, Measurements, sentence
from promptreach.diagnosis.verdict import Judgement, measured, undecided
from promptreach.report.verdict import Reason
from promptreach.training.methods.methods import CONFIGURED


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
        parts=numbers_of(found, PartsNumbers),
        brought=numbers_of(found, BroughtNumbers),
        seeds=numbers_of(found, SeedNumbers),
        one_layer=numbers_of(found, OneLayerNumbers),
    )
    judgement = next(judgement for rule in RULES if (judgement := rule(seen)) is not None)
    # What the user's own settings cost is worth knowing whatever the verdict.
    more = (*training_reasons(seen), *harmed_reasons(seen), *seed_reasons(seen), *words_reasons(seen))
    more = (*more, *steps_reasons(seen))
    also = tuple(reason for reason in more if reason not in judgement.reasons)
    return told_first(seen, also_known(seen, replace(judgement, reasons=judgement.reasons + also)))


def seed_reasons(seen: Measurements) -> tuple[Reason, ...]:
    """What a seed is worth here, where several were trained."""
    if seen.seeds is None:
        return ()
    worth = f"{100 * seen.seeds.worth:.1f} points" if seen.metric != "loss" else f"{seen.seeds.worth:.3f} nats"
    text = f"Over {len(seen.seeds.seeds)} seeds the same settings differ by up to {worth}; the margin is"
    return (measured(f"{text} {seen.margin_text}.", "seeds"),)


def steps_reasons(seen: Measurements) -> tuple[Reason, ...]:
    """That all methods were trained over more steps than were asked for, where they were."""
    most, asked = max((run.schedule for run in seen.runs.values()), default=0), seen.training.steps_asked
    if not 0 < asked < most:
        return ()
    text = f"At the {asked:,} steps asked for the verdict hung on runs that were not done: {most:,} were trained."
    return (measured(text),)


def words_reasons(seen: Measurements) -> tuple[Reason, ...]:
    """How the bare model does with words in front of the rows, and what the best soft prompt gains over that."""
    found = []
    for name, words in seen.training.in_context.items():
        text = f"{sentence(name)}: {seen.score_of(words)}"
        over = words.against_soft
        if over is not None:
            text += f"; the best soft prompt gains {seen.gain(over)} over it"
            if over.high <= seen.margin:
                text += ", so that these words, which need no training, do as well"
            elif over.low <= seen.margin / 2:
                text += ", which may be nothing"
        found.append(measured(f"{text}."))
    return tuple(found)


def depends_on(name: str, found: Collection[object]) -> bool:
    """Whether the verdict on `found` rests on a measurement of that name, which may not have been made yet."""
    return any(reason.check == name for reason in judge(found).reasons)


def nothing_measured(reasons: tuple[Reason, ...]) -> Judgement:
    """UNDECIDED: a measurement that every verdict needs is missing."""
    return undecided(
        "What a verdict needs could not be measured.", reasons, "Mend what the failed checks report and run it again."
    )


def left_out(seen: Measurements) -> Judgement | None:
    """UNDECIDED: one side of the comparison that a verdict rests on was not asked for."""
    missing, soft = set(seen.training.left_out), {"prompt", "prefix"}
    if "lora" not in missing and (not soft & missing or seen.methods(*soft) or soft & seen.training.not_here.keys()):
        return None
    best = seen.best_scored()
    without = "LoRA, the rival that a soft prompt is measured by," if "lora" in missing else "Every soft prompt"
    return undecided(
        f"{without} was left out. Of what was trained, {best} does best: {seen.score(best)}.",
        (measured(f"Not asked for: {', '.join(seen.training.left_out)}."),),
        "Leave the choice of methods open, or add what is missing, for a verdict on the form.",
        chosen=best if seen.runs[best].method not in ("head", CONFIGURED) else None,
    )


def gap_not_settled(seen: Measurements) -> Judgement | None:
    """UNDECIDED: the interval allows both "as good" and "worse"."""
    name = seen.best_soft()
    if name is None and seen.bound_by_layer:
        return None
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
    reasons = [measured(f"The interval reaches from clearly worse to as good (margin {seen.margin_text}).")]
    fell = {other: seen.runs[other].still_falling for other in (name, seen.lora)}
    if max(fell.values()) >= STILL_FALLING:
        text = " and ".join(f"{other} by {nats:.3f}" for other, nats in fell.items())
        reasons.append(measured(f"Over their last stretch the validation losses still fell, {text}.", seen.more_steps))
    return undecided(
        f"{sentence(name)} is {seen.gain(against)} from LoRA: too close to call.",
        tuple(reasons),
        f"Use about {needed:,.0f} held-out rows, or train longer.",
        chosen=name,
    )


def training_not_done(seen: Measurements) -> Judgement | None:
    """UNDECIDED: there is a gap, but the best soft prompt was not trained as far or as fast as it could be."""
    name = seen.best_soft()
    if name is None:
        return None
    run, signs = seen.runs[name], []
    if run.still_falling >= STILL_FALLING and LONGER * run.still_falling >= seen.loss_gap(name):
        text = f"Its validation loss fell by {run.still_falling:.3f} nats over the last stretch."
        signs.append(measured(text, seen.more_steps))
    if run.rate_at_edge:
        text = f"Its learning rate, {run.learning_rate:.2g}, was the largest tried and the best of them."
        signs.append(measured(text))
    advice = "Train longer, or over more learning rates; until then LoRA is the safer choice."
    return gap_left_open(seen, "but its training was not at its best yet", signs, advice) if signs else None


def nothing_memorised(seen: Measurements) -> Judgement | None:
    """UNDECIDED: the rows were to be memorised, and LoRA does not either."""
    if seen.has_memorised(seen.lora):
        return None
    falls_on = seen.runs[seen.lora].still_falling >= STILL_FALLING
    hangs_on = "lengths" if seen.training.longer_possible else seen.more_steps if falls_on else "training"
    return undecided(
        f"No method memorised the rows: LoRA reaches {seen.score(seen.lora)}.",
        (
            measured(
                "What a larger update cannot do in these steps says nothing against prompts.",
                hangs_on,
            ),
        ),
        "Train longer, or give LoRA a higher rank, until one method fits the rows.",
    )


Rule = Callable[[Measurements], Judgement | None]
RULES: tuple[Rule, ...] = (
    conflicting_completions,
    one_label,
    rows_cut,
    known_rows,
    nothing_learnt,
    left_out,
    own_beats_all,
    control_does,
    blame_training,
    rival_not_trained,
    longer_fits,
    soft_prompt_keeps_up,
    harmed_by_start,
    gap_not_settled,
    more_tokens_help,
    training_not_done,
    nothing_memorised,
    lengths_not_compared,
    longest_not_done,
    training_not_trusted,
    form_falls_short,
)
