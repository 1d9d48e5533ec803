"""What the tests of the engines share: a model in a folder, its task, and the executor that hands it to workers."""

from pathlib import Path

from helpers.models import tiny_model
from helpers.tasks import Counted
from promptreach.progress import Progress
from promptreach.training.engines.executor import Distributed, Workers
from promptreach.training.engines.jobs import TaskSource
from promptreach.training.runs import RunStore
from promptreach.training.task.task import Task

NOWHERE = RunStore(None)


def save(folder: Path, seed: int = 0) -> Path:
    """`folder`, with a model that a worker can open."""
    model = tiny_model("gpt2", seed=seed)
    model.model.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    return folder


def source_of(task: Task) -> TaskSource:
    source = TaskSource.of(task)
    assert source is not None
    return source


def distributed(task: Task, workers: Workers, store: RunStore, progress: Progress | None = None) -> Distributed:
    return Distributed(task, source_of(task), store, progress or Counted(), workers)
