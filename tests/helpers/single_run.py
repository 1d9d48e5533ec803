"""One training run, without the list that the library trains runs in."""

from promptreach.progress import Step
from promptreach.training.runs import Run, RunConfig, RunStore
from promptreach.training.side_by_side import train_side_by_side
from promptreach.training.task.task import Task


def train(task: Task, config: RunConfig, store: RunStore, step: Step) -> Run:
    """The run of `config` on `task`."""
    return train_side_by_side(task, [config], store, step)[0]
