"""A task on its way to another process: its data as it is, its model as the recipe by which to open it again.

The prepared task travels (tokens, labels, probes), so a worker neither splits nor probes anew and cannot come to
another start. The model does not travel: it is opened where the worker is, and its fingerprint must be the caller's.
"""

import platform
from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from promptreach._version import __version__
from promptreach.backbone import Backbone, Origin
from promptreach.errors import WorkerMismatchError
from promptreach.hf.models.load import as_backbone
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
        return cls(origin, task.backbone.fingerprint, parts, task.digest, len(gpus), software())

    def opened(self) -> Task:
        """The task in this process; the model is opened once and kept for the next task on it.

        Raises:
            WorkerMismatchError: when the software here is another, or the model opened here or the task on it is.
            PromptreachError: whatever opening the model raises.
        """
        here = software()
        differences = [
            f"it has {name} {here.get(name, 'not at all')}, its caller {theirs}"
            for name, theirs in self.software.items()
            if here.get(name) != theirs
        ]
        if not differences:
            task = Task(backbone=self._backbone(), **self.parts)
            if task.digest == self.digest:
                return task
            differences = [f"its {self.origin.source} holds another model"]
            _open.clear()
        raise WorkerMismatchError(platform.node(), differences)

    def _backbone(self) -> Backbone:
        if self.fingerprint not in _open:
            _open.clear()  # before the next one is opened: there may be no room for two
            _open[self.fingerprint] = as_backbone(self.origin.source, **self.origin.options)
        return _open[self.fingerprint]


def software() -> dict[str, str]:
    """What this process runs, by name."""
    found = {"promptreach": __version__}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
