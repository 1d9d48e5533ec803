"""Training virtual tokens until the model writes one text by heart: one set for each text, all in one batch.

Two different things are measured, each in a run of its own that needs no search over lengths.

*Recall: how long a text can be.* The text begins with a few tokens; each time all of them are recalled it grows by a
tenth, and training goes on from there. Every length but the last is thereby *seen* to be recalled, and only the last
one costs the steps of a failure, where doubling and bisecting pay them at each length above the capacity.

*Bits: how much of a text that is too long can be held.* A text that is recalled exactly has no more bits than its own,
and one that is far too long costs more and holds no more. So this text grows as soon as two fifths of the tokens that
the bare model gets wrong are right, and stays about two and a half times as long as what is known of it.

Beside a grid of fixed lengths, at the steps of a single one of its runs (benchmarks/tuning/capacity.py, ``--lengths``),
the growing text was recalled at least as far as the best of them, and the second aim held within a tenth of the bits of
the best and up to twice those of the first.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from promptreach.backbone import Backbone
from promptreach.capacity.forms import Form, Tensors, cut
from promptreach.capacity.scoring import Scores, scored
from promptreach.capacity.texts import MemoryText
from promptreach.progress import Step

FIRST_LENGTH = 4
"""Tokens that a growing text begins with."""

Status = Literal["whole text", "step limit", "diverged"]


@dataclass(frozen=True)
class Aim:
    """What a text grows for: the share of its tokens that must be known before it grows.

    Tokens that the bare model gets right count for nothing on either side. A share of 1 is exact recall.
    """

    share: float

    def reached(self, scores: Scores, bare: Scores) -> bool:
        """Whether these scores, on the beginning of a text, know enough of it."""
        length = len(scores.right)
        known = int(bare.right[:length].sum())
        if self.share == 1:
            return scores.recalled == length
        return int(scores.right.sum()) - known >= self.share * (length - known)


RECALL = Aim(1.0)
BITS = Aim(0.4)


@dataclass(frozen=True)
class MemorySettings:
    """How virtual tokens are trained; the defaults are the published ones.

    Attributes:
        steps: optimiser steps of a run, over all lengths of its text.
        learning_rate, beta1, beta2, weight_decay: of AdamW; the rate is that of a prompt, see `Form.rates`.
        growth: the factor by which a text grows once it is recalled.
        length: train on exactly so many tokens instead, as was published; None lets the text grow.
        seed: of the start.

    Reference: Kuratov et al. 2025 (2502.13063), whose runs train one length each.
    """

    steps: int = 5000
    learning_rate: float = 1e-2
    beta1: float = 0.9
    beta2: float = 0.9
    weight_decay: float = 0.01
    growth: float = 1.1
    length: int | None = None
    seed: int = 0

    @property
    def aims(self) -> tuple[Aim, ...]:
        """What the runs of one text are for: a growing text has two, a fixed length shows both numbers in one."""
        return (RECALL, BITS) if self.length is None else (RECALL,)

    @property
    def most_steps(self) -> int:
        """Optimiser steps of all runs together, at most."""
        return self.steps * len(self.aims)

    def first(self, available: int) -> int:
        """The length that training on a text of so many tokens begins with."""
        return min(available, FIRST_LENGTH if self.length is None else self.length)

    def next(self, length: int, available: int) -> int | None:
        """The length after `length`; None when that was all."""
        if self.length is not None or length == available:
            return None
        return math.floor(min(available, max(length + 1, self.growth * length)))


class Learner:
    """The virtual tokens of one text on their way, and the two best states so far.

    Attributes:
        length: tokens trained on at present.
        recalled, recalling: the longest beginning recalled, and the tensors that did it.
        held, bits_after, best_length, hits: the most bits held (below the bits of the source where they are known, else
            below the bare model's loss), the loss in bits there, over how many tokens, and how many were right.
        status: None while it is training.
    """

    def __init__(self, text: MemoryText, bare: Scores, start: Tensors, aim: Aim, settings: MemorySettings) -> None:
        self.text, self.bare, self.aim, self.settings = text, bare, aim, settings
        self.length = self.best_length = settings.first(len(text.ids))
        self.recalled, self.recalling = 0, start
        # Should no loss ever be a number, these stand: virtual tokens that take nothing off.
        self.held, self.bits_after = -math.inf, bare.bits(self.length)
        self.hits = int(bare.right[: self.length].sum())
        self.status: Status | None = None
        self.steps = 0

    def look(self, scores: Scores, tensors: Tensors) -> None:
        """Take in what `tensors` scored at the present length: keep the best, and grow if they may."""
        self.steps += 1
        after = scores.bits(self.length)
        if not math.isfinite(after):
            self.status = "diverged"
            return
        source = self.text.source_bits
        held = (self.bare.bits(self.length) if source is None else source * self.length) - after
        if held > self.held:
            self.held, self.bits_after, self.best_length = held, after, self.length
            self.hits = int(scores.right.sum())
        if scores.recalled > self.recalled:
            self.recalled, self.recalling = scores.recalled, tensors
        if self.aim.reached(scores, self.bare):
            longer = self.settings.next(self.length, len(self.text.ids))
            if longer is not None:
                self.length = longer
            elif scores.recalled == self.length:
                self.status = "whole text"


def memorise(
    backbone: Backbone,
    form: Form,
    tokens: int,
    texts: Sequence[MemoryText],
    bare: Sequence[Scores],
    opening: int,
    aim: Aim,
    settings: MemorySettings,
    step: Step,
) -> list[Learner]:
    """Train `tokens` virtual tokens for each text, until it is recalled whole or the steps are used up.

    No text's loss depends on another's tensors, and AdamW works entry by entry. What the texts share is the batch, and
    for a prefix the learning rate: it is in units of a typical entry of all their starts together.

    Args:
        bare: the scores of the whole texts without virtual tokens.
        opening: the token in front of every text.
        step: called once an optimiser step, with the lengths reached.
    """
    start = form.start(backbone, tokens, len(texts), torch.Generator().manual_seed(settings.seed))
    own = [nn.Parameter(part) for part in start]
    rates = [settings.learning_rate * rate for rate in form.rates(backbone, start)]
    optimiser = torch.optim.AdamW(
        [{"params": [part], "lr": rate} for part, rate in zip(own, rates, strict=True)],
        betas=(settings.beta1, settings.beta2),
        weight_decay=settings.weight_decay,
    )
    learners = [
        Learner(text, scores, cut(start, row), aim, settings)
        for row, (text, scores) in enumerate(zip(texts, bare, strict=True))
    ]
    for done in range(settings.steps):
        rows = [row for row, learner in enumerate(learners) if learner.status is None]
        if not rows:
            step(settings.steps - done)
            break
        optimiser.zero_grad()
        joined = form.joined(tuple(part[rows] for part in own))
        windows = [texts[row].ids[: learners[row].length] for row in rows]
        for row, scores in zip(rows, scored(backbone, windows, opening, joined, backward=True), strict=True):
            learners[row].look(scores, cut(tuple(own), row))
        optimiser.step()
        step(note=f"recalled {', '.join(str(learner.recalled) for learner in learners)}")
    for learner in learners:
        learner.status = learner.status or "step limit"
    return learners
