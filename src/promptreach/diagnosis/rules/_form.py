"""The rules about the form: what must be known before it is blamed, and the verdict that blames it."""

from promptreach.certificate import Evidence
from promptreach.diagnosis.numbers import USER
from promptreach.diagnosis.rules._length import LENGTHS, REST, length_effect
from promptreach.diagnosis.rules.measurements import LONGER, STILL_FALLING, Measurements, sentence
from promptreach.diagnosis.verdict import Judgement, measured, undecided
from promptreach.report.verdict import Reason, TuningVerdict

FOUND = 0.5
"""The share of a planted prompt's gain from which a training is said to find prompts that exist."""


def harmed_by_start(seen: Measurements) -> Judgement | None:
    """UNDECIDED: every prompt and prefix ends below the control, so that none of them was compared as trained."""
    if seen.same_form() or not any(map(seen.harmed, seen.runs)) or seen.bound_by_layer:
        return None
    return undecided(
        f"Every soft prompt ends below {seen.control}: its start did harm that training did not undo.",
        (*harmed_reasons(seen), *_one_layer_open(seen)),
        f"Train longer, or from a start of your own; {seen.control} ({seen.score('head')}) or LoRA is the safer choice "
        "until then.",
        chosen=seen.lora,
    )


def harmed_reasons(seen: Measurements) -> tuple[Reason, ...]:
    """A reason for each prompt and prefix, the user's own included, that ends certainly below the control."""

    def below(name: str) -> str:
        return f"ends below {seen.control} ({seen.gain(seen.training.against_head[name])})"

    found = [
        f"{sentence(name)} {below(name)}: harmed by its start (tried: {', '.join(run.starts_tried) or run.init}), and "
        "not compared as trained."
        for name, run in seen.methods("prompt", "prefix").items()
        if seen.harmed(name)
    ]
    own = seen.training.against_head.get(USER)
    if seen.user is not None and seen.user.method != "lora" and own is not None and own.high < 0:
        found.append(f"{seen.your} {below(USER)}: its start, or its training, did harm.")
    return tuple(measured(text) for text in found)


def lengths_not_compared(seen: Measurements) -> Judgement | None:
    """UNDECIDED: there is a settled gap, but whether it closes with the length was not seen."""
    if seen.bound_by_layer:
        return None
    lengths = [run.tokens for run in seen.by_length(seen.form).values()]
    grows = length_effect(seen, seen.form) is not None and seen.form in seen.training.longer_possible
    closest = seen.runs[seen.closest].method
    open_prefix = closest == "prefix" in seen.training.longer_possible
    if len(lengths) >= LENGTHS and not grows and not open_prefix:
        return None
    finished, form = ", ".join(map(str, lengths)) or "none", seen.form
    text = f"Lengths of a {form} that finished training: {finished}; a comparison needs three."
    if grows:
        text = f"From the lengths tried ({finished}) the gap closes too slowly to tell; one longer decides."
    elif len(lengths) >= LENGTHS:
        text, form = "A prefix comes closest, and one length of it was trained; one longer decides.", "prefix"
    return gap_left_open(
        seen,
        "and that may be its length as well as its form",
        [measured(text, "lengths"), *_one_layer_open(seen)],
        f"Train a {form} of another length as well, four times as long, say; LoRA is the safer choice until then.",
    )


def longest_not_done(seen: Measurements) -> Judgement | None:
    """UNDECIDED: length seems to save less and less, but the longest run, falling on, would close what that leaves."""
    effect = None if seen.bound_by_layer else length_effect(seen, seen.form)
    if effect is None:
        return None
    run = seen.runs[effect.longer]
    open_still = effect.at_most_tokens - max(seen.margin, REST * effect.gap)
    in_unit = 1.0 if seen.metric == "loss" else effect.left / max(seen.loss_gap(effect.longer), STILL_FALLING)
    if run.still_falling < STILL_FALLING or LONGER * run.still_falling * in_unit < open_still:
        return None
    text = f"The validation loss of {effect.longer} fell by {run.still_falling:.3f} nats over its last stretch."
    return gap_left_open(
        seen,
        "and the longest one tried was not at its end, so that what length does is not seen to its end either",
        [measured(text, seen.more_steps)],
        f"Train {effect.longer} longer, or four times as many; LoRA is the safer choice until then.",
    )


def training_not_trusted(seen: Measurements) -> Judgement | None:
    """UNDECIDED: there is a settled gap, but this training does not find prompts that exist, or that is not known."""
    if seen.bound_by_layer:
        return None
    if seen.planted is None:
        text = "Whether this training finds prompts that exist was not measured."
        reason = Reason(text, Evidence.UNKNOWN, "planted")
    elif seen.planted.share >= FOUND:
        return None
    else:
        share = f"{max(0.0, seen.planted.share):.0%}"
        text = f"Of the gain of a prompt that was planted, and so exists, the same training found {share}."
        reason = measured(text, "planted")
    return gap_left_open(
        seen,
        "and that may be its training as well as its form",
        [reason, *_one_layer_open(seen)],
        "Train longer, until the planted prompt is found; a gap that is left then is the form's. LoRA is the safer "
        "choice until then.",
    )


def form_falls_short(seen: Measurements) -> Judgement:
    """FORM: a real gap to LoRA that neither length nor the tried learning rates close."""
    name = seen.best_soft() or max(seen.methods("prompt", "prefix"), key=lambda name: seen.against_lora(name).gain)
    prefixes = [other for other in seen.methods("prefix") if seen.keeps_up(other)]
    better = prefixes[0] if prefixes else seen.lora
    run = seen.runs[better]
    chosen = f"LoRA of rank {run.rank}" if run.method == "lora" else f"a prefix of {run.tokens} slots"
    return Judgement(
        TuningVerdict.FORM,
        Evidence.MEASURED,
        f"Use {chosen}: it reaches {seen.score(better)}, the best {seen.runs[name].method} ({name}) "
        f"{seen.score(name)}, at every length tried.",
        (measured(f"{sentence(name)} against LoRA: {seen.gain(seen.against_lora(name))}."), *_form_reasons(seen)),
        better,
        f"Train {chosen} at learning rate {run.learning_rate:.2g} over {run.schedule} steps. This is measured on the "
        "sizes and rates above, not a proof that no prompt exists.",
    )


def _form_reasons(seen: Measurements) -> list[Reason]:
    """The evidence that it is the form: the curve over lengths, the planted prompt, the floor in one layer."""
    found = []
    lengths = ", ".join(str(run.tokens) for run in seen.by_length(seen.form).values())
    effect = length_effect(seen, seen.form)
    if effect is not None:
        rest = f"{100 * effect.at_most_tokens:.0f} points" if seen.metric != "loss" else f"{effect.at_most_tokens:.2f}"
        text = (
            f"At {seen.form} lengths {lengths} the gap closes so slowly that {rest} are left at the longest that fits."
        )
        found.append(measured(text))
    elif lengths:
        text = f"At {seen.form} lengths {lengths} the loss no longer falls with the length, and training had settled."
        found.append(measured(text))
    if seen.bound_by_layer and seen.one_layer is not None:
        text = (
            f"In its one layer at least {seen.one_layer.share:.0%} of what LoRA does to the heads is out of reach of "
        )
        found.append(measured(f"{text}any prompt of any length on these rows (a proved floor).", "one_layer"))
    if seen.planted is not None:
        text = f"Of what a planted prompt gains, the same training found {min(1.0, seen.planted.share):.0%}."
        found.append(measured(text, "planted"))
    return found


def gap_left_open(seen: Measurements, why: str, reasons: list[Reason], advice: str) -> Judgement:
    """UNDECIDED: a gap to LoRA, and why it does not decide."""
    name = seen.closest
    headline = f"{sentence(name)} {seen.falls_short(name)}, {why}."
    return undecided(headline, tuple(reasons), advice, chosen=seen.lora)


def _one_layer_open(seen: Measurements) -> list[Reason]:
    """In a model of one layer, that the oracle was not asked yet."""
    if seen.training.layers != 1 or seen.one_layer is not None:
        return []
    text = "What no prompt can do in the model's one layer was not measured."
    return [Reason(text, Evidence.UNKNOWN, "one_layer")]
