"""Where a classifier reads, and what that is worth.

An encoder trained with mean pooling answers little through its first position, and behind a prompt the first position
is not even the token that it was. Here a head is fitted at each place to what the model with the user's adapter gives
out there, so that the place is judged and not the head that happened to be trained.
"""

from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from promptreach.backbone import Joined
from promptreach.certificate import Evidence
from promptreach.diagnosis.experiment import Measured, Study, not_measured
from promptreach.diagnosis.measures.comparison import paired
from promptreach.hf import attach
from promptreach.prompt import Adapter
from promptreach.training.task.encoding import evaluation_batches
from promptreach.training.task.objective import Classification, Completion, Outcomes
from promptreach.training.task.readout import POOLINGS, LinearHead, Pooling, Probe
from promptreach.training.task.task import Task, fit_probes


@dataclass(frozen=True, eq=False)
class Read:
    """What an adapter gives at one place, through a head fitted there.

    Attributes:
        outcomes: on the held-out rows.
        answers: the class that each held-out row is put into, or None for completions.
    """

    outcomes: Outcomes
    answers: Tensor | None


def read(study: Study, adapter: Adapter | None, place: Pooling | None) -> Read:
    """The held-out outcomes of an adapter, through the language head or through one fitted at `place`."""
    task = study.task
    with ExitStack() as stack:
        joined = None if adapter is None else stack.enter_context(attach(task.backbone, adapter))
        if place is None:
            return Read(task.evaluate("held_out", Completion(), joined), None)
        head = probe_at(task, place, study.seed, joined).head()
        outcomes = task.evaluate("held_out", Classification(head), joined)
        return Read(outcomes, predictions(task, "held_out", head, joined))


def probe_at(task: Task, place: Pooling, seed: int, joined: Joined | None = None) -> Probe:
    """A linear probe on the training rows' features at `place`: the task's own where nothing is joined."""
    if joined is None and place in task.probes:
        return task.probes[place]
    classes = len(next(iter(task.probes.values())).bias)
    return fit_probes(task, [place], classes, seed, joined)[place]


def task_at(task: Task, place: Pooling | None, seed: int) -> Task:
    """The same task with its head at `place`; None leaves it where it is."""
    if place is None or place == task.pooling:
        return task
    return replace(task, pooling=place, probes={**task.probes, place: probe_at(task, place, seed)})


def predictions(task: Task, part: str, head: LinearHead, joined: Joined | None) -> Int[Tensor, " examples"]:
    """The class that `head` puts each example into."""
    data = task.encoded[part]
    found = torch.empty(len(data), dtype=torch.long)
    with torch.no_grad():
        for rows in evaluation_batches([len(ids) for ids in data.sequences], task.batch_size):
            batch = task.backbone.batch([data.sequences[row] for row in rows])
            found[rows] = head(task.backbone.hidden(batch, joined), batch.mask).argmax(-1).cpu()
    return found


def measure(study: Study, own: Outcomes | None) -> Measured:
    """The accuracy of each place on the frozen model, and with the user's adapter where there is one.

    Args:
        study: a classification task.
        own: the outcomes of the user's adapter through the read-out that it was trained with, or None.
    """
    task = study.task
    if task.pooling is None:
        return not_measured("reading", "Completions are read through the model's own language head.")
    theirs = study.theirs
    places = list(dict.fromkeys([*POOLINGS[task.backbone.task], *([theirs.pooling] if theirs else [])]))
    named = [place for place in places if place is not None]
    bare = {place: read(study, None, place).outcomes for place in named}
    values: dict[str, Any] = {
        "chosen": task.pooling,
        "yours": theirs.pooling if theirs else None,
        "bare": {place: found.accuracy for place, found in bare.items()},
        "adapter": {},
        "own": None,
        "worth": None,
    }
    if study.adapter is not None:
        through = {place: read(study, study.adapter, place).outcomes for place in named}
        values["adapter"] = {place: found.accuracy for place, found in through.items()}
        if study.reading is not None and own is not None:
            values["own"] = own.accuracy
            values["worth"] = paired(through[task.pooling], own, study.metric, every_row=study.every_row)
    return Measured("reading", Evidence.MEASURED, study.sample, values)
