"""What was measured, as records: one row a text, one point for the texts that were trained side by side.

A point is named by a hash of everything that decides it: the model, the form, the number of virtual tokens, the texts
and the settings. A finished point is found under that name and not repeated; a killed one left no record and is run
again.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from promptreach.backbone import Backbone
from promptreach.capacity.forms import FORMS, Form, stacked
from promptreach.capacity.memorise import Learner, MemorySettings, Status, memorise
from promptreach.capacity.scoring import Scores, recalled_freely, scored
from promptreach.capacity.texts import Kind, MemoryText
from promptreach.errors import Fault, InputError
from promptreach.files import as_output_error, write_atomically
from promptreach.progress import Step

POINT_VERSION = 1
"""Part of every point's name: raise it when the same settings would give another outcome."""


@dataclass(frozen=True)
class Memory:
    """What the virtual tokens trained for one text hold. MEASURED; other training may find more.

    Attributes:
        method: a key of `FORMS`.
        tokens: virtual tokens, or slots at every layer.
        kind, sequence: which text.
        length: tokens of the text of which most was held; the numbers down to `right` are over these.
        bits_before, bits_after: the loss without and with the virtual tokens, summed over all tokens, the first
            included.
        bits_source: bits that the text's source has; None for natural text.
        right_before, right: tokens predicted right from the true ones before them.
        recalled: the longest beginning whose every token is predicted right from the true ones before it.
        recalled_free: the same when the model writes by itself; by the tensors that reached `recalled`.
        steps: optimiser steps taken, in all runs.
        status: ``whole text`` when all of it was recalled, so that more may fit; ``step limit``; ``diverged`` when the
            loss stopped being a number, after which nothing was taken in.
    """

    method: str
    tokens: int
    kind: Kind
    sequence: int
    length: int
    bits_before: float
    bits_after: float
    bits_source: float | None
    right_before: int
    right: int
    recalled: int
    recalled_free: int
    steps: int
    status: Status

    @property
    def bits_removed(self) -> float:
        """Loss that the virtual tokens take off the bare model's, in bits."""
        return self.bits_before - self.bits_after

    @property
    def bits_stored(self) -> float | None:
        """How far the loss lies below the bits of the source, negative when it lies above; None for natural text.

        Unlike `bits_removed` it counts nothing for telling the model what *kind* of text comes: one and the same prompt
        for all random texts stores at most 0 bits on average.
        """
        return None if self.bits_source is None else self.bits_source - self.bits_after

    @property
    def gain(self) -> int:
        """Tokens right with the virtual tokens minus without: what was published as token gain."""
        return self.right - self.right_before


@dataclass(frozen=True)
class Question:
    """One point to measure: a form, a number of virtual tokens, the texts to learn side by side."""

    method: str
    tokens: int
    texts: tuple[MemoryText, ...]
    opening: int
    settings: MemorySettings

    def name(self, backbone: Backbone) -> str:
        """A hash of all that the answer depends on."""
        key = json.dumps([POINT_VERSION, backbone.fingerprint, asdict(self)], sort_keys=True)
        return hashlib.sha256(key.encode()).hexdigest()[:20]


class PointStore:
    """Finished points in a folder, one JSON file each; without a folder nothing is kept."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def get(self, name: str) -> list[Memory] | None:
        """The rows of that point, or None; a file that cannot be read is no record."""
        if self.folder is None:
            return None
        try:
            record: list[dict[str, Any]] = json.loads((self.folder / f"{name}.json").read_text(encoding="utf-8"))
            return [Memory(**row) for row in record]
        except (OSError, ValueError, TypeError):
            return None

    def put(self, name: str, rows: Sequence[Memory]) -> None:
        """Keep a finished point.

        Raises:
            OutputError: when it cannot be written.
        """
        if self.folder is None:
            return
        with as_output_error(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self.folder / f"{name}.json", json.dumps([asdict(row) for row in rows], indent=1))


def measured(
    backbone: Backbone, question: Question, bare: Callable[[], Sequence[Scores]], store: PointStore, step: Step
) -> list[Memory]:
    """The rows of one point: from the store if it was finished before, trained otherwise.

    Args:
        bare: gives the scores of the question's texts without virtual tokens; asked only where there is work.
        step: called once an optimiser step.
    """
    name = question.name(backbone)
    known = store.get(name)
    if known is not None:
        step(question.settings.most_steps, "done before")
        return known
    form = FORMS[question.method]
    runs = [
        memorise(
            backbone, form, question.tokens, question.texts, bare(), question.opening, aim, question.settings, step
        )
        for aim in question.settings.aims
    ]
    rows = [_row(backbone, question, form, learners) for learners in zip(*runs, strict=True)]
    store.put(name, rows)
    return rows


def bare_scores(backbone: Backbone, texts: Sequence[MemoryText], opening: int) -> list[Scores]:
    """The scores of each whole text with nothing in front but the opening token.

    Raises:
        InputError: when the bare model's loss is not a number.
    """
    found = [scored(backbone, [text.ids], opening)[0] for text in texts]
    if not all(bool(scores.nats.isfinite().all()) for scores in found):
        expected, remedy = "numbers", "check the weights, or open the model in another dtype"
        raise InputError(Fault("model", f"losses of {backbone.name} that are NaN or infinite", expected, remedy))
    return found


def _row(backbone: Backbone, question: Question, form: Form, learners: Sequence[Learner]) -> Memory:
    """The numbers of one text from its runs; the free-running one is measured here, with what recalled most."""
    recaller, holder = (max(learners, key=lambda one: getattr(one, name)) for name in ("recalled", "held"))
    text, bare, length = holder.text, holder.bare, holder.best_length
    window, joined = text.ids[: recaller.length], form.joined(stacked([recaller.recalling]))
    # Scored once more: the text has grown since, and its next tokens may be right as well.
    recalled = scored(backbone, [window], question.opening, joined)[0].recalled
    status: Status = "diverged" if any(learner.status == "diverged" for learner in learners) else "step limit"
    return Memory(
        method=question.method,
        tokens=question.tokens,
        kind=text.kind,
        sequence=text.index,
        length=length,
        bits_before=bare.bits(length),
        bits_after=holder.bits_after,
        bits_source=None if text.source_bits is None else text.source_bits * length,
        right_before=int(bare.right[:length].sum()),
        right=holder.hits,
        recalled=recalled,
        recalled_free=recalled_freely(backbone, window, question.opening, joined),
        steps=sum(learner.steps for learner in learners),
        status="whole text" if recalled == len(text.ids) else status,
    )
