"""One training run, without the list that the library trains runs in."""

from promptreach.progress import Step
from promptreach.tuning.runs import Run, RunConfig, RunStore
from promptreach.tuning.side_by_side import train_side_by_side
from promptreach.tuning.task import Task


def train(task: Task, config: RunConfig, store: RunStore, step: Step) -> Run:
    """The run of `config` on `task`."""
    return train_side_by_side(task, [config], store, step)[0]
