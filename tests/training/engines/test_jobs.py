"""What crosses to a worker: the task whole, the model by its recipe, and errors on their way back."""

import pickle
from dataclasses import replace
from pathlib import Path

import pytest

from helpers.tasks import labelled, task_of
from helpers.workers import save, source_of
from promptreach.errors import (
    DataError,
    Fault,
    PromptreachError,
    UnsupportedModelError,
    WorkerLostError,
    WorkerMismatchError,
)
from promptreach.hf import open_model
from promptreach.training.engines.jobs import TaskSource
from promptreach.training.task.task import Task, prepare


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    return prepare(open_model(save(tmp_path_factory.mktemp("model"))), labelled(), longest_prompt=8)


def test_a_task_opens_its_model_once(task: Task) -> None:
    first = source_of(task).opened()
    again = pickle.loads(pickle.dumps(source_of(replace(task, batch_size=7)))).opened()
    assert again.backbone is first.backbone
    assert again.batch_size == 7
    assert first.digest == task.digest


def test_a_worker_with_another_model_is_refused(task: Task, tmp_path: Path) -> None:
    travelling = source_of(replace(task, backbone=open_model(save(tmp_path, seed=2))))  # no model that is open already
    save(tmp_path, seed=1)
    with pytest.raises(WorkerMismatchError, match="another model"):
        travelling.opened()


def test_a_model_in_memory_has_no_source() -> None:
    assert TaskSource.of(task_of("gpt2")) is None


@pytest.mark.parametrize(
    "error",
    [
        DataError([Fault("row 1", "nothing", "a text"), Fault("row 2", "3", "a text", "mend it")]),
        UnsupportedModelError("T5", ["bert"], "Sorry."),
        WorkerLostError(["prompt"], "killed"),
        WorkerMismatchError("node", ["one", "two"]),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_cross_processes_whole(error: PromptreachError) -> None:
    error.add_note("seen there")
    found = pickle.loads(pickle.dumps(error))
    assert type(found) is type(error)
    assert str(found) == str(error)
    assert vars(found) == vars(error)
