"""The training loop: one method, one setting, from its start to its best state."""

from promptreach.progress import Step
from promptreach.tuning.runs import Run, RunConfig, RunStore
from promptreach.tuning.side_by_side import train_side_by_side
from promptreach.tuning.task import Task


def train(task: Task, config: RunConfig, store: RunStore, step: Step) -> Run:
    """The run of `config` on `task`: taken from the store if it finished there before, trained otherwise.

    The same task and settings give the same run on the same machine, paused on the way or not. A loss that is not a
    number ends the run with status ``diverged`` and the best state before that; it is a result, not an error, because a
    learning rate that is too large is worth knowing.
    """
    return train_side_by_side(task, [config], store, step)[0]
