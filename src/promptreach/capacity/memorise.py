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
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Literal

import torch

from promptreach.backbone import Backbone, Prepended
from promptreach.capacity.scoring import ONE_PASS, TextScores, blanked, scored
from promptreach.capacity.texts import MemoryText
from promptreach.progress import Step
from promptreach.training.methods.initial import WarmStart, drawn_start, typical_entry
from promptreach.training.methods.methods import METHODS, Shape, Trainable
from promptreach.training.side_by_side import JOINED_METHODS, joined_rows
from promptreach.training.trainer import Trainer

FIRST_LENGTH = 4
"""Tokens that a growing text begins with."""

Status = Literal["whole text", "step limit", "diverged"]

MEMORY_METHODS = (*JOINED_METHODS, ONE_PASS)
"""The forms whose memory is measured."""

RATES = (1, 3, 10)
"""The learning rates of a text's starts, one after the other and again from the first, in units of the one asked for:
which of them recalls most depends on the form and on the length of the text."""

RECALL, BITS = 1.0, 0.4
"""The share of a text's tokens that must be known before it grows, by what is measured; 1 is exact recall."""


@dataclass(frozen=True)
class MemorySettings:
    """How virtual tokens are trained; the defaults are the published ones.

    Attributes:
        steps: optimiser steps of a run, over all lengths of its text.
        learning_rate, beta1, beta2, weight_decay: of AdamW; the rate is that of a prompt, and a prefix's is scaled to
            its typical entry.
        growth: the factor by which a text grows once it is recalled.
        length: train on exactly so many tokens instead, as was published; None lets the text grow.
        starts: virtual tokens of one text that are trained side by side from starts of their own, in turn at 1, 3 and
            10 times the rate; the best count.
        seed: of the starts.

    Reference: Kuratov et al. 2025 (2502.13063), whose runs train one length each.
    """

    steps: int = 5000
    learning_rate: float = 1e-2
    beta1: float = 0.9
    beta2: float = 0.9
    weight_decay: float = 0.01
    growth: float = 1.1
    length: int | None = None
    starts: int = 1
    seed: int = 0

    @property
    def shares(self) -> tuple[float, ...]:
        """The `share` of each run of one text: a growing text has two, a fixed length shows both numbers in one."""
        return (RECALL, BITS) if self.length is None else (RECALL,)

    @property
    def most_steps(self) -> int:
        """Optimiser steps of all runs together, at most."""
        return self.steps * len(self.shares)

    def first(self, available: int) -> int:
        """The length that training on a text of so many tokens begins with."""
        return min(available, FIRST_LENGTH if self.length is None else self.length)

    def next(self, length: int, available: int) -> int | None:
        """The length after `length`; None when that was all."""
        if self.length is not None or length == available:
            return None
        return math.floor(min(available, max(length + 1, self.growth * length)))


@dataclass(frozen=True)
class MemoryJob:
    """One thing to measure: a method, a number of virtual tokens, the texts to learn side by side."""

    method: str
    tokens: int
    texts: tuple[MemoryText, ...]
    opening: int
    settings: MemorySettings

    def reads(self, joined: Prepended) -> Prepended:
        """What the model is joined with for these virtual tokens."""
        return blanked(joined) if self.method == ONE_PASS else joined


class MemoryTrainer(Trainer):
    """The virtual tokens of one text on their way, and the two best states so far.

    Args:
        trainable: one text's virtual tokens.
        rates: their learning rates, by tensor.
        text: what they learn.
        bare: its scores without them.
        share: of the tokens, to be known before the text grows.
        settings: of the training.

    Attributes:
        length: tokens trained on at present.
        whole: whether all of it is recalled.
        recalled, recalling: the longest beginning recalled, and the state that did it.
        held, bits_after, best_length, hits: the most bits held (below the bits of the source where they are known, else
            below the bare model's loss), the loss in bits there, over how many tokens, and how many were right.
    """

    def __init__(
        self,
        trainable: Trainable,
        rates: Sequence[float],
        text: MemoryText,
        bare: TextScores,
        share: float,
        settings: MemorySettings,
    ) -> None:
        groups = [([part], rate) for part, rate in zip(trainable.parameters.values(), rates, strict=True)]
        betas = (settings.beta1, settings.beta2)
        super().__init__(trainable, groups, betas=betas, weight_decay=settings.weight_decay)
        self.text, self.bare, self.share, self.settings = text, bare, share, settings
        self.length = self.best_length = settings.first(len(text.ids))
        self.recalled, self.recalling = 0, trainable.state()
        # Should no loss ever be a number, these stand: virtual tokens that take nothing off.
        self.held, self.bits_after = -math.inf, bare.bits(self.length)
        self.hits = int(bare.right[: self.length].sum())
        self.whole = False

    @property
    def is_over(self) -> bool:
        """No step is left: the text is recalled whole, the steps are used up, or the loss stopped being a number."""
        return self.whole or self.diverged or self.steps >= self.settings.steps

    def update(self, scores: TextScores) -> None:
        """Take in what the tensors scored at the present length, then take the step along their gradients."""
        after = scores.bits(self.length)
        if math.isfinite(after):
            self._look(scores, after)
        self.descend(after)

    def recaller(self) -> Prepended:
        """The virtual tokens that recalled most."""
        self.trainable.load(self.recalling)
        return self.trainable.joined

    def _look(self, scores: TextScores, after: float) -> None:
        """Keep the best, and let the text grow if it may."""
        source = self.text.source_bits
        held = (self.bare.bits(self.length) if source is None else source * self.length) - after
        if held > self.held:
            self.held, self.bits_after, self.best_length = held, after, self.length
            self.hits = int(scores.right.sum())
        if scores.recalled > self.recalled:
            self.recalled, self.recalling = scores.recalled, self.trainable.state()
        if self._knows_enough(scores):
            longer = self.settings.next(self.length, len(self.text.ids))
            self.whole = longer is None and scores.recalled == self.length
            self.length = longer or self.length

    def _knows_enough(self, scores: TextScores) -> bool:
        """Whether the text may grow; tokens that the bare model gets right count for nothing on either side."""
        if self.share == 1:
            return scores.recalled == self.length
        known = int(self.bare.right[: self.length].sum())
        return int(scores.right.sum()) - known >= self.share * (self.length - known)


def memorise(
    backbone: Backbone, job: MemoryJob, bare: Sequence[TextScores], share: float, step: Step
) -> list[MemoryTrainer]:
    """Train virtual tokens for each text of the job, until it is recalled whole or the steps are used up; of a text's
    starts the one that recalled most tokens, or held most bits.

    No text's loss depends on another's tensors. What the texts share is the batch, and for a prefix the learning rate:
    it is in units of a typical entry of all their starts together.

    Args:
        bare: the scores of the whole texts without virtual tokens.
        share: of the tokens, to be known before a text grows: `RECALL` or `BITS`.
        step: called once an optimiser step, with the lengths reached.
    """
    settings, trained = job.settings, trained_as(job.method)
    method = METHODS[trained]
    generator = torch.Generator().manual_seed(settings.seed)
    with ExitStack() as stack:
        trainables = []
        starts = [(text, scores) for text, scores in zip(job.texts, bare, strict=True) for _ in range(settings.starts)]
        for text, _ in starts:
            start = WarmStart(drawn_start(backbone, trained, job.tokens, generator))
            shape = Shape(tokens=job.tokens, rank=0, init=method.inits[0], seed=settings.seed, start=start)
            trainables.append(stack.enter_context(method.attach(backbone, shape, [text.ids])))
        shares = _rate_shares(backbone, trained, trainables)
        rates = [settings.learning_rate * RATES[start % len(RATES)] for start in range(settings.starts)]
        trainers = [
            MemoryTrainer(trainable, [rate * part for part in shares], text, scores, share, settings)
            for trainable, rate, (text, scores) in zip(trainables, rates * len(job.texts), starts, strict=True)
        ]
        of_text = [trainers[at : at + settings.starts] for at in range(0, len(trainers), settings.starts)]
        while active := [one for group in of_text if not _whole(group) for one in group if not one.is_over]:
            joined = job.reads(joined_rows([one.trainable.joined for one in active], [1] * len(active)))
            windows = [one.text.ids[: one.length] for one in active]
            for one, scores in zip(active, scored(backbone, windows, job.opening, joined, backward=True), strict=True):
                one.update(scores)
            step(note=f"recalled {', '.join(str(max(one.recalled for one in group)) for group in of_text)}")
    if left := settings.steps - max(one.steps for one in trainers):
        step(left)
    return [max(group, key=lambda one: one.recalled if share == RECALL else one.held) for group in of_text]


def _whole(group: Sequence[MemoryTrainer]) -> bool:
    """Whether one of a text's starts recalls all of it, so that the others need not go on."""
    return any(one.whole for one in group)


def trained_as(method: str) -> str:
    """The key of `METHODS` under which virtual tokens of a form are started and trained."""
    return "prompt" if method == ONE_PASS else method


def _rate_shares(backbone: Backbone, method: str, trainables: Sequence[Trainable]) -> list[float]:
    """The learning rate of each tensor in units of the one for a prompt.

    A prefix's are the same share of a typical entry as a prompt's: keys and values are of other sizes than embeddings.
    """
    if method == "prompt":
        return [1.0]
    unit = typical_entry(backbone.vocabulary)
    parts = zip(*(one.parameters.values() for one in trainables), strict=True)
    return [typical_entry(torch.stack(part).detach()) / unit for part in parts]
