"""The places where a classifier may read, and what each is worth.

An encoder trained with mean pooling answers little through its first position, and behind a prompt the first position
is not even the token that it was. Here a head is fitted at each place to what the model with the user's adapter gives
out there, so that the place is judged and not the head that happened to be trained.
"""

from contextlib import nullcontext
from dataclasses import replace

import torch
from jaxtyping import Int
from torch import Tensor

from promptreach.backbone import Prepended
from promptreach.diagnosis.experiment import Experiment, Measured, Skipped
from promptreach.diagnosis.numbers import PoolingNumbers
from promptreach.hf import attach
from promptreach.prompt import Adapter
from promptreach.training.task.encoding import evaluation_batches
from promptreach.training.task.objective import Classification, Outcomes
from promptreach.training.task.readout import POOLINGS, LinearHead, Pooling, Probe
from promptreach.training.task.task import Task, fit_probes


def read(
    experiment: Experiment, adapter: Adapter | None, place: Pooling | None
) -> tuple[Outcomes, Adapter | None, Tensor | None]:
    """An adapter through the language head, or through a head fitted at `place`.

    Returns:
        Its outcomes on the held-out rows, itself, and the class that each row is put into; None for completions.
    """
    task = experiment.task
    with nullcontext() if adapter is None else attach(task.backbone, adapter) as joined:
        if place is None:
            found = task.evaluate("held_out", task.objective(), joined)
            return task.answered("held_out", found, joined), adapter, None
        head = probe_at(task, place, experiment.seed, joined).head()
        outcomes = task.evaluate("held_out", Classification(head), joined)
        return outcomes, adapter, predictions(task, "held_out", head, joined)


def probe_at(task: Task, place: Pooling, seed: int, joined: Prepended | None = None) -> Probe:
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


def predictions(task: Task, part: str, head: LinearHead, joined: Prepended | None) -> Int[Tensor, " examples"]:
    """The class that `head` puts each example into."""
    data = task.encoded[part]
    found = torch.empty(len(data), dtype=torch.long)
    with torch.no_grad():
        for rows in evaluation_batches([len(ids) for ids in data.sequences], task.batch_size):
            batch = data.batch(task.backbone, rows)
            found[rows] = head(task.backbone.hidden(batch, joined), batch.mask).argmax(-1).cpu()
    return found


def measure(experiment: Experiment) -> Measured[PoolingNumbers] | Skipped:
    """The accuracy of each place on the frozen model, and with the user's adapter where there is one."""
    task, user = experiment.task, experiment.user_settings
    if task.pooling is None:
        return Skipped("Completions are read through the model's own language head.")
    places = [place for place in POOLINGS[task.backbone.task] if place is not None]
    if user is not None and user.pooling is not None and user.pooling not in places:
        places.append(user.pooling)
    bare = {place: read(experiment, None, place)[0].accuracy for place in places}
    numbers = PoolingNumbers(task.pooling, user.pooling if user else None, bare, adapter={})
    if experiment.user_adapter is not None:
        through = {place: read(experiment, experiment.user_adapter, place)[0] for place in places}
        numbers = replace(numbers, adapter={place: found.accuracy for place, found in through.items()})
        if experiment.user_pooling is not None and experiment.user_run is not None:
            own = experiment.user_run.outcomes
            worth = experiment.compare(through[task.pooling], own)
            numbers = replace(numbers, user_accuracy=own.accuracy, worth=worth)
    return Measured(numbers, experiment.sample)
