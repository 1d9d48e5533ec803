"""Every executor trains the same runs, and keeps them the same way."""

import pickle
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from helpers.same_runs import assert_same_runs
from helpers.tasks import Counted, config_of, labelled
from helpers.workers import NOWHERE, distributed, save
from promptreach.hf import open_model
from promptreach.progress import Step
from promptreach.training.engines.executor import InProcess
from promptreach.training.engines.jobs import Job, Result, run_job
from promptreach.training.runs import RunStore
from promptreach.training.search.sweep import sweep
from promptreach.training.task.task import Task, prepare

CONFIG = config_of("prompt", steps=8)
CONFIGS = [replace(CONFIG, learning_rate=rate) for rate in (0.01, 0.1, 0.3)]


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    return prepare(open_model(save(tmp_path_factory.mktemp("model"))), labelled(), longest_prompt=8)


class Elsewhere:
    """Workers that share nothing with their caller: all that crosses is bytes. They run the last job first."""

    shares_store = False

    def __init__(self) -> None:
        self.steps: list[int] = []

    def run_jobs(self, jobs: Sequence[Job], step: Step) -> Iterator[tuple[int, Result]]:
        for index in reversed(range(len(jobs))):
            taken: list[int] = []

            def count(advance: int = 1, note: str = "", taken: list[int] = taken) -> None:
                taken.append(advance)

            result = pickle.loads(pickle.dumps(run_job(pickle.loads(pickle.dumps(jobs[index])), count)))
            self.steps.append(sum(taken))
            step(sum(taken))
            yield index, result


def records(folder: Path) -> list[Path]:
    return list(folder.glob("*/run.json"))


def test_the_comparison_of_runs_sees_their_order(task: Task) -> None:
    runs = InProcess(task, NOWHERE, Counted()).run(CONFIGS)
    with pytest.raises(AssertionError):
        assert_same_runs(runs, runs[::-1])


def test_without_a_shared_folder_runs_and_pauses_cross_as_bytes(task: Task, tmp_path: Path) -> None:
    """A search by halving, whose runs go on from where the last rung left them."""
    expected = sweep(InProcess(task, NOWHERE, Counted()), CONFIG)
    for folder in (None, tmp_path):
        workers = Elsewhere()
        found = sweep(distributed(task, workers, RunStore(folder)), CONFIG)
        assert_same_runs((*found.trials, found.best), (*expected.trials, expected.best))
        if folder is not None:
            assert len(records(folder)) == len(workers.steps) > len(found.trials)
            before = len(workers.steps)
            again = sweep(distributed(task, workers, RunStore(folder)), CONFIG)
            assert_same_runs((*again.trials, again.best), (*found.trials, found.best))
            assert len(workers.steps) == before


@pytest.mark.parametrize("method", ["head", "prefix", "lora", "unipelt", "full"])
def test_every_method_crosses(method: str, task: Task) -> None:
    config = config_of(method)
    found = distributed(task, Elsewhere(), NOWHERE).run([config])
    assert_same_runs(found, InProcess(task, NOWHERE, Counted()).run([config]))
