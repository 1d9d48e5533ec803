"""A job on its way to another process: runs to train, with their task's data as it is and its model as a recipe.

The prepared task travels (tokens, labels, probes), so a worker neither splits nor probes anew and cannot come to
another start. The model does not travel: it is opened where the worker is, and its fingerprint must be the caller's.
"""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

from promptreach._version import __version__
from promptreach.backbone import Backbone, Origin
from promptreach.errors import WorkerMismatchError
from promptreach.hf.models.load import as_backbone
from promptreach.progress import Step
from promptreach.training.runs import Paused, Run, RunConfig, RunStore
from promptreach.training.side_by_side import train_side_by_side
from promptreach.training.task.task import Task

_PACKAGES = ("torch", "transformers", "peft")
"""Their versions may change the numbers of a run."""

_open: dict[str, Backbone] = {}
"""The model that this process opened last for a task that came from elsewhere, by its fingerprint."""


@dataclass(frozen=True, eq=False)
class TaskSource:
    """All that another process needs to stand where this one stands; can be pickled.

    Attributes:
        origin: how the model was opened.
        fingerprint: of the model.
        parts: every attribute of the task but the model.
        digest: of the task.
        gpus: how many GPUs the model is spread over.
        software: versions that may decide a number, by name.
    """

    origin: Origin
    fingerprint: str
    parts: Mapping[str, Any]
    digest: str
    gpus: int
    software: Mapping[str, str]

    @classmethod
    def of(cls, task: Task) -> "TaskSource | None":
        """The source of `task`, or None when its model exists only as an object in this process."""
        origin = task.backbone.origin
        if origin is None:
            return None
        parts = {item.name: getattr(task, item.name) for item in fields(task) if item.name != "backbone"}
        gpus = {weight.device for weight in task.backbone.release().parameters() if weight.device.type == "cuda"}
        return cls(origin, task.backbone.fingerprint, parts, task.digest, len(gpus), _software())

    def opened(self) -> Task:
        """The task in this process; the model is opened once and kept for the next task on it.

        Raises:
            WorkerMismatchError: when the software here is another, or the model opened here or the task on it is.
            PromptreachError: whatever opening the model raises.
        """
        here = _software()
        differences = [
            f"it has {name} {here.get(name, 'not at all')}, its caller {theirs}"
            for name, theirs in self.software.items()
            if here.get(name) != theirs
        ]
        if not differences:
            if self.fingerprint not in _open:
                _open.clear()  # before the next one is opened: there may be no room for two
                _open[self.fingerprint] = as_backbone(self.origin.source, **self.origin.options)
            task = Task(backbone=_open[self.fingerprint], **self.parts)
            if task.digest == self.digest:
                return task
            differences = [f"its {self.origin.source} holds another model"]
            _open.clear()
        raise WorkerMismatchError(platform.node(), differences)


@dataclass(frozen=True, eq=False)
class Job:
    """One run to train, or several side by side.

    Attributes:
        source: how to come by the task.
        configs: of the runs.
        folder: of the caller's store, for workers that reach it and keep there what they finish; None for others.
        paused: for each run what an earlier pause kept, where `folder` is None.
    """

    source: TaskSource
    configs: tuple[RunConfig, ...]
    folder: Path | None = None
    paused: tuple[Paused | None, ...] = ()

    @property
    def label(self) -> str:
        """A few words for people."""
        return label_of(self.configs)


@dataclass(frozen=True, eq=False)
class Result:
    """The runs of a job, and, without a common folder, what those that paused need to go on."""

    runs: tuple[Run, ...]
    paused: tuple[Paused | None, ...]


def run_job(job: Job, step: Step) -> Result:
    """The result of a job that is run in this process, a worker's; `step` is told the optimiser steps taken.

    Raises:
        WorkerMismatchError: when this worker has other software or another model than its caller.
    """
    task = job.source.opened()
    store = RunStore(job.folder)
    names = [store.whole_name(task.digest, config) for config in job.configs]
    for name, paused in zip(names, job.paused, strict=False):
        if paused is not None:
            store.pause(name, *paused)
    runs = train_side_by_side(task, job.configs, store, step)
    returns = [job.folder is None and config.pause > 0 for config in job.configs]
    kept = tuple(store.paused(name) if back else None for name, back in zip(names, returns, strict=True))
    return Result(tuple(runs), kept)


def label_of(configs: Sequence[RunConfig]) -> str:
    """The runs of one job in a few words; they share method and size."""
    rates = ", ".join(f"{config.learning_rate:.3g}" for config in configs)
    return f"{configs[0].label}, rate {rates}"


def steps_of(configs: Sequence[RunConfig]) -> int:
    """The optimiser steps of these runs, if nothing stops one earlier."""
    return sum(config.last_step for config in configs)


def _software() -> dict[str, str]:
    """The versions that this process runs, by name."""
    return {"promptreach": __version__, **{name: version(name) for name in _PACKAGES}}
