"""Warnings about a soft prompt in training: each names a known cause in plain words, and what to do.

A warning is a rule over the readings so far. Readings are facts; what they mean is MEASURED experience with seeded
failures and healthy runs, and no proof that a run cannot recover.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from promptreach.monitoring.readings import PromptReading

BARELY_MOVES = 0.05
"""Share of its own norm that a prompt can move by in a whole training that will not get anywhere."""
FAR_FROM_WORDS = 5.0
"""Times the norm of vocabulary rows from which a start is one that attention saturates on."""
LOST_TO_ROUNDING = 0.5
"""Share of the numbers with a gradient below which a step is mostly lost to rounding."""
SATURATED = 0.99
"""Attention share of the prompt above which the text is hardly read."""
UNSEEN = 1e-6
"""Attention share below which a layer does not read the prompt."""
DEAD_LAYER = 1e-6
"""A layer's gradient over the largest layer's, below which a prefix does not learn there."""
COLLAPSED = 0.98
"""Share of one answer from which the answers have collapsed, where the labels are not like that."""
VARIED = 0.8
"""Share of the most frequent label below which such answers are not what the labels ask for."""


@dataclass(frozen=True)
class WatchedTraining:
    """What holds for the whole training.

    Attributes:
        total_steps: optimiser steps that the training will take.
        virtual_tokens: the prompt's length.
        trainable: whether any of the prompt's numbers asks for a gradient.
        optimised: whether the optimiser holds them.
        dtype: of the numbers that are trained, such as ``"bfloat16"``.
    """

    total_steps: int
    virtual_tokens: int
    trainable: bool
    optimised: bool
    dtype: str


@dataclass(frozen=True)
class Warned:
    """One warning: its key, the step it was given at, and its text."""

    key: str
    step: int
    text: str


Rule = Callable[[WatchedTraining, Sequence[PromptReading]], str]


def warnings_of(facts: WatchedTraining, readings: Sequence[PromptReading]) -> dict[str, str]:
    """The warnings that these readings give, by key."""
    found = {name: rule(facts, readings) for name, rule in RULES.items()}
    return {name: text for name, text in found.items() if text}


def _frozen(facts: WatchedTraining, readings: Sequence[PromptReading]) -> str:
    if not facts.trainable:
        return "The prompt is frozen: none of its numbers asks for a gradient. Set requires_grad before training."
    if not facts.optimised:
        return "The optimiser does not hold the prompt: build it after the adapter was added, from model.parameters()."
    return ""


def _no_gradient(facts: WatchedTraining, readings: Sequence[PromptReading]) -> str:
    if not facts.trainable or not readings or readings[-1].gradient_norm not in (None, 0.0):
        return ""
    return (
        "The prompt gets no gradient at all: nothing that is read depends on it. It may be cut off (inputs truncated "
        "in front after it was joined), lie outside a sliding window, or the loss may be taken where nothing sees it."
    )


def _barely_moves(facts: WatchedTraining, readings: Sequence[PromptReading]) -> str:
    moved = [reading.moved for reading in readings if reading.moved is not None]
    if len(moved) < 2 or _rounding(facts, readings) or not all(moved[-2:]):
        return ""
    whole = max(moved[-2:]) * facts.total_steps
    if whole >= BARELY_MOVES:
        return ""
    return (
        f"At this rate all {facts.total_steps:,} steps together move the prompt by at most {whole:.2%} of its norm. "
        f"Soft prompts need rates 10 to 1,000 times those of other weights: try one at least {0.5 / whole:,.0f} times "
        "as large, or a search."
    )


def _rounding(facts: WatchedTraining, readings: Sequence[PromptReading]) -> str:
    seen = [reading.entries_moved for reading in readings if reading.entries_moved is not None]
    if facts.dtype not in ("bfloat16", "float16") or len(seen) < 2 or max(seen[-2:]) >= LOST_TO_ROUNDING:
        return ""
    return (
        f"The prompt is kept in {facts.dtype} and only {max(seen[-2:]):.0%} of its numbers change in a step: the rest "
        "is lost to rounding. Keep the prompt in float32 (the model may stay in half precision)."
    )


def _far_start(facts: WatchedTraining, readings: Sequence[PromptReading]) -> str:
    first = readings[0] if readings else None
    if first is None or first.step > 0 or first.prompt_norm is None or not first.vocabulary_norm:
        return ""
    times = first.prompt_norm / first.vocabulary_norm
    if times < FAR_FROM_WORDS:
        return ""
    return (
        f"The prompt starts {times:,.0f} times as long as the model's own embeddings, where attention saturates and "
        "gradients are small. Start from vocabulary rows or from a text (prompt_tuning_init in PEFT)."
    )


def _padding(facts: WatchedTraining, readings: Sequence[PromptReading]) -> str:
    rows = max((reading.padded_behind_prompt or 0.0 for reading in readings), default=0.0)
    if not rows:
        return ""
    return (
        f"In {rows:.0%} of a batch's rows padding stands between the prompt and the text (padding_side is 'left'): the "
        "text's positions then depend on its neighbours. Pad on the right while training."
    )


def _unlabelled(facts: WatchedTraining, readings: Sequence[PromptReading]) -> str:
    rows = [reading.labelled_rows for reading in readings if reading.labelled_rows is not None]
    if not rows or min(rows) == 1.0:
        return ""
    return (
        f"Up to {1 - min(rows):.0%} of a batch's rows have no label left to learn from: the completion was "
        "probably cut off by the maximal length."
    )


def _saturated(facts: WatchedTraining, readings: Sequence[PromptReading]) -> str:
    shares = [reading.attention_share for reading in readings if reading.attention_share is not None]
    if len(shares) < 2 or min(shares[-2:]) < SATURATED:
        return ""
    return (
        f"The prompt takes {shares[-1]:.1%} of all attention: the text is hardly read. Take fewer tokens, a smaller "
        "start or a smaller rate."
    )


def _unread(facts: WatchedTraining, readings: Sequence[PromptReading]) -> str:
    last = readings[-1] if readings else None
    if last is None or not last.layer_shares or max(last.layer_shares) > UNSEEN:
        return ""
    return (
        "No layer reads the prompt where the answer is read: it was cut off, lies outside the window, or the answer is "
        "read at a position that does not see it."
    )


def _dead_layers(facts: WatchedTraining, readings: Sequence[PromptReading]) -> str:
    last = [reading.layer_gradients for reading in readings if reading.layer_gradients][-2:]
    if len(last) < 2:
        return ""
    alive = [max(pair) for pair in zip(*last, strict=True)]
    dead = [str(layer) for layer, gradient in enumerate(alive) if gradient <= DEAD_LAYER * max(alive)]
    if not dead or max(alive) == 0:
        return ""
    several = "s" if len(dead) > 1 else ""
    return (
        f"The prefix does not learn in layer{several} {', '.join(dead)}, where its gradient is nothing beside the "
        "other layers': its keys may be too far from the queries for any attention, or too large."
    )


def _collapsed(facts: WatchedTraining, readings: Sequence[PromptReading]) -> str:
    last = [reading for reading in readings if reading.most_frequent_answer is not None][-3:]
    if len(last) < 3 or last[0].step < 0.1 * facts.total_steps:
        return ""
    if any((reading.most_frequent_answer or 0.0) < COLLAPSED for reading in last):
        return ""
    if any((reading.most_frequent_label or 1.0) > VARIED for reading in last):
        return ""
    return (
        "The model gives one answer to everything while the labels differ: the prompt has collapsed, or has not begun "
        "to learn. Look at the rate, the start, and where the answer is read."
    )


RULES: dict[str, Rule] = {
    "frozen": _frozen,
    "no_gradient": _no_gradient,
    "far_start": _far_start,
    "rounding": _rounding,
    "barely_moves": _barely_moves,
    "padding": _padding,
    "unlabelled": _unlabelled,
    "unread": _unread,
    "saturated": _saturated,
    "dead_layers": _dead_layers,
    "collapsed": _collapsed,
}
"""The known causes, those first that explain the others."""
