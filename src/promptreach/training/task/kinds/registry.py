"""The kinds of tasks that are read through a head, by the name that task data carry."""

from collections.abc import Mapping

from promptreach.data import KindName, TaskData
from promptreach.training.task.kinds.kind import TaskKind
from promptreach.training.task.kinds.labels import Labels
from promptreach.training.task.kinds.numbers import Numbers
from promptreach.training.task.kinds.several_labels import SetsOfLabels
from promptreach.training.task.kinds.tags import Tags

KINDS: Mapping[KindName, TaskKind] = {kind.name: kind for kind in (Labels(), SetsOfLabels(), Numbers(), Tags())}
"""Every kind that has a head; completions have the model's own."""


def kind_of(data: TaskData) -> TaskKind | None:
    """The kind of `data`; None for completions, which the model's own language head answers."""
    return KINDS.get(data.kind)
