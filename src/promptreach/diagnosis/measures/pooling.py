"""The places where a classifier may read, and what each is worth.

An encoder trained with mean pooling answers little through its first position, and behind a prompt the first position
is not even the token that it was. Here a head is fitted at each place to what the model with the user's adapter gives
out there, so that the place is judged and not the head that happened to be trained.
"""

from contextlib import nullcontext
from dataclasses import replace

from jaxtyping import Int
from torch import Tensor

from promptreach.backbone import Prepended
from promptreach.diagnosis.experiment import Experiment, Measured, Skipped
from promptreach.diagnosis.numbers import PoolingNumbers
from promptreach.hf import attach
from promptreach.prompt import Adapter
from promptreach.training.task.metrics import score
from promptreach.training.task.objective import HeadObjective, Outcomes
from promptreach.training.task.readout import POOLINGS, Pooling, Probe
from promptreach.training.task.task import Task, fit_probes


def read(
    experiment: Experiment, adapter: Adapter | None, place: Pooling | None
) -> tuple[Outcomes, Adapter | None, Tensor | None]:
    """An adapter through the language head, or through a head fitted at `place`.

    Returns:
        Its outcomes on the held-out rows, itself, and the class that each row is put into; None for every task but
        that of one label a row.
    """
    task = experiment.task
    with nullcontext() if adapter is None else attach(task.backbone, adapter) as joined:
        if place is None:
            found = task.evaluate("held_out", task.objective(), joined)
            return task.answered("held_out", found, joined), adapter, None
        objective = task_at(task, place, experiment.seed, joined).objective()
        assert isinstance(objective, HeadObjective)
        if adapter is None:
            outcomes = task.evaluate_bare("held_out", objective)
        else:
            outcomes = task.evaluate("held_out", objective, joined)
        return outcomes, adapter, class_given(task, outcomes)


def probe_at(task: Task, place: Pooling, seed: int, joined: Prepended | None = None) -> Probe:
    """A linear probe on the training rows' features at `place`: the task's own where nothing is joined."""
    if joined is None and place in task.probes:
        return task.probes[place]
    classes = len(next(iter(task.probes.values())).bias)
    return fit_probes(task, [place], classes, seed, joined)[place]


def task_at(task: Task, place: Pooling | None, seed: int, joined: Prepended | None = None) -> Task:
    """The same task with its head at `place`, fitted with `joined` in front; None leaves it where it is."""
    if place is None or (place == task.pooling and joined is None):
        return task
    return replace(task, pooling=place, probes={**task.probes, place: probe_at(task, place, seed, joined)})


def class_given(task: Task, outcomes: Outcomes) -> Int[Tensor, " examples"] | None:
    """The class that each example is put into; None for every task but that of one label a row."""
    if task.pooling is None or task.kind.name != "labels" or outcomes.given is None:
        return None
    return outcomes.given.long()


def measure(experiment: Experiment) -> Measured[PoolingNumbers] | Skipped:
    """The score of each place on the frozen model, and with the user's adapter where there is one."""
    task, user = experiment.task, experiment.user_settings
    if task.pooling is None:
        return Skipped("Completions are read through the model's own language head.")
    if task.pooling == "each":
        return Skipped("Every token is read, so there is no place to choose.")
    places = [place for place in POOLINGS[task.backbone.task] if place is not None]
    if user is not None and user.pooling is not None and user.pooling not in places:
        places.append(user.pooling)
    bare = {place: _score(experiment, read(experiment, None, place)[0]) for place in places}
    numbers = PoolingNumbers(task.pooling, user.pooling if user else None, bare, adapter={})
    if experiment.user_adapter is not None:
        through = {place: read(experiment, experiment.user_adapter, place)[0] for place in places}
        numbers = replace(numbers, adapter={place: _score(experiment, found) for place, found in through.items()})
        if experiment.user_pooling is not None and experiment.user_run is not None:
            own = experiment.user_run.outcomes
            worth = experiment.compare(through[task.pooling], own)
            numbers = replace(numbers, user_accuracy=_score(experiment, own), worth=worth)
    return Measured(numbers, experiment.sample)


def _score(experiment: Experiment, outcomes: Outcomes) -> float:
    """Accuracy of labels, and the metric that decides of everything else."""
    metric = "accuracy" if experiment.is_classification else experiment.metric
    return score(metric, outcomes, experiment.positive)
