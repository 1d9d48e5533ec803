"""The rule about length: what more virtual tokens gain, and whether going on like that closes the gap."""

import math
from dataclasses import dataclass

from promptreach.certificate import Evidence
from promptreach.diagnosis.rules.measurements import LENGTH_HELPS, Measurements, unit_of
from promptreach.diagnosis.verdict import Judgement, measured
from promptreach.report.verdict import TuningVerdict

CLOSES_HALF = 0.5
"""The share of the shorter one's gap from which a longer run need not be at its end to show what length does."""
REST = 0.1
"""The share of the shorter one's gap up to which what is left counts as closed, where that is more than the margin."""


@dataclass(frozen=True)
class LengthEffect:
    """What a longer prompt or prefix gains over a shorter one that was trained to its end.

    Attributes:
        shorter, longer: the names of the two runs.
        gap, left: what the shorter and the longer one are short of, in the metric's unit.
        saved, fitted: nats by which validation and training loss fall from the one to the other.
        at_most_tokens: the gap that is left at the longest length that fits, if it falls on as a power of the length.
        enough: the length at which as much is left as counts as closed; infinite where no length does.
        closes: whether that length fits.
    """

    shorter: str
    longer: str
    gap: float
    left: float
    saved: float
    fitted: float
    at_most_tokens: float
    enough: float
    closes: bool


def length_effect(seen: Measurements) -> LengthEffect | None:
    """The effect of length between the longest run and the longest shorter one that it can be told from; else None.

    A difference is the effect of length only where the shorter run settled and beats the control, and the paired
    interval of the longer against it lies above zero. A longer run that is not at its end counts where it already
    closes half of the gap.
    """
    runs = list(seen.by_length())
    for shorter in reversed(runs[:-1]):
        found = _between(seen, shorter, runs[-1])
        if found is not None:
            return found
    return None


def more_tokens_help(seen: Measurements) -> Judgement | None:
    """MORE_TOKENS: length has an effect, and going on like that closes the gap within the lengths that fit."""
    effect = length_effect(seen)
    if effect is None or not effect.closes or _speaks_for_the_form(seen, effect):
        return None
    longer, name = seen.runs[effect.longer], effect.longer
    unit = unit_of(seen.form)
    against = seen.training.against_shorter[name][effect.shorter]
    other = ", or a prefix" if seen.form == "prompt" else ""
    return Judgement(
        TuningVerdict.MORE_TOKENS,
        Evidence.MEASURED,
        f"A longer {seen.form} is needed: from {seen.runs[effect.shorter].tokens} to {longer.tokens} {unit} the "
        f"loss still fell by {effect.saved:.3f} nats, and {name} {seen.falls_short(name)}.",
        (
            measured(f"{name} against {effect.shorter}, which had settled: {seen.gain(against)}."),
            measured(
                f"Training and validation loss fall together with the length ({effect.fitted:.3f} and "
                f"{effect.saved:.3f} nats)."
            ),
            measured(
                f"Falling on like that, about {math.ceil(effect.enough):,} {unit} close the gap; "
                f"{seen.training.most_tokens:,} fit."
            ),
        ),
        name,
        f"Train {4 * longer.tokens} {unit}{other}, to see how the curve goes on.",
    )


def _between(seen: Measurements, shorter: str, longer: str) -> LengthEffect | None:
    short, long = seen.runs[shorter], seen.runs[longer]
    against = seen.training.against_shorter.get(longer, {}).get(shorter)
    saved, fitted = short.validation_loss - long.validation_loss, (short.train_loss or 0.0) - (long.train_loss or 0.0)
    gap, left = seen.missing(shorter), seen.missing(longer)
    if against is None or against.low <= 0 or min(saved, fitted) < LENGTH_HELPS or not 0 < gap > left:
        return None
    control = seen.training.against_head.get(shorter)
    if control is None or control.low <= 0 or not seen.settled(shorter, seen.loss_gap(shorter)):
        return None
    if not seen.settled(longer, seen.loss_gap(longer)) and left > (1 - CLOSES_HALF) * gap:
        return None
    closed = max(seen.margin, REST * gap)
    rest, enough = _extrapolated(gap, left, short.tokens, long.tokens, seen.training.most_tokens, closed)
    return LengthEffect(shorter, longer, gap, left, saved, fitted, rest, enough, rest <= closed)


def _extrapolated(gap: float, left: float, shorter: int, longer: int, most: int, closed: float) -> tuple[float, float]:
    """The gap at the longest length that fits, and the length at which it is `closed`, as a power of the length."""
    if left <= closed:
        return max(0.0, left), float(longer)
    power = math.log(gap / left) / math.log(longer / shorter)
    enough = longer * math.exp(min(700.0, math.log(left / closed) / power))
    return left * (max(most, longer) / longer) ** -power, enough


def _speaks_for_the_form(seen: Measurements, effect: LengthEffect) -> bool:
    """Whether a shorter prefix, with its own keys and values in every layer, ends where the longest prompt does, while
    the prompt's length has not closed half of the gap: then room is not what is missing."""
    if seen.form == "prefix" or effect.left <= (1 - CLOSES_HALF) * effect.gap:
        return False
    return any(
        run.tokens < seen.runs[effect.longer].tokens
        and not seen.harmed(name)
        and seen.settled(name, seen.loss_gap(name))
        and abs(seen.missing(name) - effect.left) <= seen.margin / 2
        for name, run in seen.methods("prefix").items()
    )
