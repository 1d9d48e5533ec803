"""The rule about length: what more virtual tokens gain, and whether going on like that closes the gap.

Where tokens bind, the gap falls by about as much for every doubling until all is held; where something else binds, each
doubling soon saves less than the one before. Both are carried on as they were seen.
"""

import math
from dataclasses import dataclass

from promptreach.certificate import Evidence
from promptreach.diagnosis.rules.measurements import LENGTH_HELPS, Measurements, settings_of, unit_of
from promptreach.diagnosis.verdict import Judgement, measured
from promptreach.report.verdict import TuningVerdict

CLOSES_HALF = 0.5
"""The share of the shorter one's gap from which a longer run need not be at its end to show what length does."""
LENGTHS = 3
"""The lengths of which a curve consists."""
REST = 0.1
"""The share of the shorter one's gap up to which what is left counts as closed, where that is more than the margin."""


@dataclass(frozen=True)
class LengthEffect:
    """What a longer prompt or prefix gains over a shorter one that was trained to its end.

    Attributes:
        form: prompt or prefix.
        shorter, longer: the names of the two runs.
        gap, left: what the shorter and the longer one are short of, in the metric's unit.
        saved, fitted: nats by which validation and training loss fall from the one to the other.
        at_most_tokens: the gap that is left at the longest length that fits, if it falls on as it did.
        enough: the length at which as much is left as counts as closed; infinite where no length does.
        closes: whether that length fits.
    """

    form: str
    shorter: str
    longer: str
    gap: float
    left: float
    saved: float
    fitted: float
    at_most_tokens: float
    enough: float
    closes: bool


def length_effect(seen: Measurements, form: str) -> LengthEffect | None:
    """The effect of a form's length between the longest run and the longest shorter one that it can be told from; else
    None.

    A difference is the effect of length only where the shorter run settled and beats the control, and the paired
    interval of the longer against it lies above zero. A longer run that is not at its end, or that has but one shorter
    one beside it, counts where it already closes half of the gap.
    """
    runs = list(seen.by_length(form))
    for shorter in reversed(runs[:-1]):
        found = _between(seen, form, shorter, runs[-1])
        if found is not None:
            return found
    return None


def closing_effect(seen: Measurements) -> LengthEffect | None:
    """The first form's effect of length that, going on as it did, closes the gap; None where no form's does."""
    effects = [effect for form in seen.forms if (effect := length_effect(seen, form)) is not None and effect.closes]
    return next((effect for effect in effects if not _speaks_for_the_form(seen, effect)), None)


def longer_fits(seen: Measurements) -> Judgement | None:
    """MORE_TOKENS: of the lengths asked for none keeps up, one beyond them does, and that is the effect of length."""
    name = seen.fitting()
    if name not in seen.training.beyond or any(map(seen.keeps_up, seen.same_form().keys() - set(seen.training.beyond))):
        return None
    run, effect = seen.runs[name], length_effect(seen, seen.runs[name].method)
    if effect is None or run.best_step == 0 or seen.training.against_head[name].low <= seen.margin / 2:
        return None
    shorter, unit = effect.shorter, unit_of(run.method)
    against = seen.training.against_shorter[name][shorter]
    return Judgement(
        TuningVerdict.MORE_TOKENS,
        Evidence.MEASURED,
        f"A longer {run.method} is needed, and {run.tokens} {unit} are enough: {settings_of(run)} reaches "
        f"{seen.score(name)}, LoRA {seen.score(seen.lora)}, {shorter} {seen.score(shorter)}.",
        (
            measured(f"{name} against LoRA on the same {seen.rows}: {seen.gain(seen.against_lora(name))}."),
            measured(f"{name} against {shorter}, which had settled: {seen.gain(against)}."),
        ),
        name,
        f"Train {settings_of(run)}, {seen.length_of_training(name)}; the adapter trained here comes with this report.",
    )


def more_tokens_help(seen: Measurements) -> Judgement | None:
    """MORE_TOKENS: length has an effect, and going on like that closes the gap within the lengths that fit."""
    effect = closing_effect(seen)
    if effect is None:
        return None
    longer, name = seen.runs[effect.longer], effect.longer
    unit = unit_of(effect.form)
    against = seen.training.against_shorter[name][effect.shorter]
    other = ", or a prefix" if effect.form == "prompt" else ""
    # One length more, where it can be had, tells whether the gap does fall on.
    check = "lengths" if effect.form in seen.training.longer_possible else "training"
    return Judgement(
        TuningVerdict.MORE_TOKENS,
        Evidence.MEASURED,
        f"A longer {effect.form} is needed: from {seen.runs[effect.shorter].tokens} to {longer.tokens} {unit} the "
        f"loss still fell by {effect.saved:.3f} nats, and {name} {seen.falls_short(name)}.",
        (
            measured(f"{name} against {effect.shorter}, which had settled: {seen.gain(against)}."),
            measured(
                f"Training and validation loss fall together with the length ({effect.fitted:.3f} and "
                f"{effect.saved:.3f} nats)."
            ),
            measured(
                f"Falling on like that, about {math.ceil(effect.enough):,} {unit} close the gap; "
                f"{seen.training.most_tokens:,} fit.",
                check,
            ),
        ),
        name,
        f"Train {4 * longer.tokens} {unit}{other}, to see how the curve goes on.",
    )


def _between(seen: Measurements, form: str, shorter: str, longer: str) -> LengthEffect | None:
    short, long = seen.runs[shorter], seen.runs[longer]
    against = seen.training.against_shorter.get(longer, {}).get(shorter)
    saved, fitted = short.validation_loss - long.validation_loss, (short.train_loss or 0.0) - (long.train_loss or 0.0)
    gap, left = seen.missing(shorter), seen.missing(longer)
    if against is None or against.low <= 0 or min(saved, fitted) < LENGTH_HELPS or not 0 < gap > left:
        return None
    control = seen.training.against_head.get(shorter)
    if control is None or control.low <= 0 or not seen.settled(shorter, seen.loss_gap(shorter)):
        return None
    rough = len(seen.by_length(form)) < LENGTHS or not seen.settled(longer, seen.loss_gap(longer))
    if rough and left > (1 - CLOSES_HALF) * gap:
        return None
    closed = max(seen.margin, REST * gap)
    fall = (gap - left) / math.log2(long.tokens / short.tokens)
    slower = _slowing(seen, form, shorter, fall)
    rest = max(0.0, left - _further(fall, slower, math.log2(max(1.0, seen.training.most_tokens / long.tokens))))
    enough = long.tokens * 2.0 ** min(1000.0, _doublings(left - closed, fall, slower))
    return LengthEffect(form, shorter, longer, gap, left, saved, fitted, rest, enough, rest <= closed)


def _slowing(seen: Measurements, form: str, shorter: str, fall: float) -> float:
    """What a doubling of the length saves over what the doubling before it saved, as the lengths up to `shorter` tell;
    1 where they are too few to tell, or it does not slow down."""
    below = [(run.tokens, name) for name, run in seen.by_length(form).items() if run.tokens < seen.runs[shorter].tokens]
    if not below:
        return 1.0
    tokens, name = max(below)
    before = (seen.missing(name) - seen.missing(shorter)) / math.log2(seen.runs[shorter].tokens / tokens)
    return min(1.0, fall / before) if before > 0 else 1.0


def _further(fall: float, slower: float, doublings: float) -> float:
    """What so many doublings more save, each `slower` times what the one before it did, which saved `fall`."""
    if slower == 1.0:
        return fall * doublings
    share: float = slower * (1 - slower**doublings) / (1 - slower)
    return fall * share


def _doublings(needed: float, fall: float, slower: float) -> float:
    """The doublings that save as much as needed; infinite where none do."""
    if needed <= 0:
        return 0.0
    if slower == 1.0:
        return needed / fall
    share = needed * (1 - slower) / (fall * slower)
    return math.log(1 - share) / math.log(slower) if share < 1 else math.inf


def _speaks_for_the_form(seen: Measurements, effect: LengthEffect) -> bool:
    """Whether a shorter prefix, with its own keys and values in every layer, ends where the longest prompt does, while
    the prompt's length has not closed half of the gap: then room is not what is missing."""
    if effect.form == "prefix" or effect.left <= (1 - CLOSES_HALF) * effect.gap:
        return False
    return any(
        run.tokens < seen.runs[effect.longer].tokens
        and not seen.harmed(name)
        and seen.settled(name, seen.loss_gap(name))
        and abs(seen.missing(name) - effect.left) <= seen.margin / 2
        for name, run in seen.methods("prefix").items()
    )
