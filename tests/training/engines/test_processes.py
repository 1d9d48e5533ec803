"""Worker processes train the runs of this process, keep them, and lose none to a worker that dies.

They are started once for all tests here: a fresh interpreter with torch takes seconds.
"""

import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from helpers.same_runs import assert_same_runs
from helpers.tasks import Counted, config_of, labelled, no_step
from helpers.workers import NOWHERE, distributed, save, source_of
from promptreach.errors import OutputError, WorkerLostError, WorkerMismatchError
from promptreach.hf import open_model
from promptreach.progress import Step
from promptreach.training.engines.executor import InProcess
from promptreach.training.engines.jobs import Job
from promptreach.training.engines.processes import Processes
from promptreach.training.runs import Run, RunConfig, RunStore
from promptreach.training.task.task import Task, prepare

CONFIG = config_of("prompt", steps=8)
CONFIGS = [replace(CONFIG, learning_rate=rate) for rate in (0.01, 0.1, 0.3)]


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    return prepare(open_model(save(tmp_path_factory.mktemp("model"))), labelled(), longest_prompt=8)


@pytest.fixture(scope="module")
def processes() -> Iterator[Processes]:
    with Processes(2, 1) as found:
        yield found


def here(task: Task, configs: Sequence[RunConfig]) -> list[Run]:
    """The same runs, trained in this process."""
    return InProcess(task, NOWHERE, Counted()).run(configs)


def records(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.glob("*/run.json")}


def test_worker_processes_give_the_same_runs_and_keep_them(task: Task, processes: Processes, tmp_path: Path) -> None:
    store, progress, expected = RunStore(tmp_path), Counted(), here(task, CONFIGS)
    assert_same_runs(distributed(task, processes, store, progress).run(CONFIGS), expected)
    assert progress.tasks == [("prompt, 3 runs", 24)]
    kept = [store.get(store.name(task.digest, config)) for config in CONFIGS]
    assert_same_runs([run for run in kept if run is not None], expected)

    before = records(tmp_path)
    more = [*CONFIGS, replace(CONFIG, learning_rate=0.2)]
    again = distributed(task, processes, store, progress).run(more)
    assert_same_runs(again[:3], expected)
    after = records(tmp_path)
    assert {path: after[path] for path in before} == before
    assert len(after) == 4
    assert progress.tasks[1:] == [("prompt, 4 runs", 32)]


class Killing(Counted):
    """Progress that kills a worker when steps of training are told, and so many times in all a later one."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.left = times
        self.killed: set[int] = set()

    @contextmanager
    def task(self, description: str, total: int | None = None) -> Iterator[Step]:
        with super().task(description, total) as count:

            def step(advance: int = 1, note: str = "") -> None:
                count(advance, note)
                now = {process.pid for process in multiprocessing.active_children() if process.pid is not None}
                if self.left and advance > 0 and note != "done before" and not now & self.killed:
                    self.left -= 1
                    self.killed = now
                    os.kill(min(now), signal.SIGKILL)

            yield step


def test_a_worker_that_is_killed_is_replaced(task: Task, processes: Processes, tmp_path: Path) -> None:
    configs = [replace(config, steps=200, seed=1) for config in CONFIGS]
    progress = Killing(times=1)
    found = distributed(task, processes, RunStore(tmp_path), progress).run(configs)
    assert progress.left == 0
    assert_same_runs(found, here(task, configs))
    assert [steps for _, steps in progress.tasks] == [600]  # a dead worker's steps are taken back


def test_a_job_that_kills_two_workers_is_an_error_that_names_it(
    task: Task, processes: Processes, tmp_path: Path
) -> None:
    store = RunStore(tmp_path)
    first, second = replace(CONFIG, seed=2), replace(CONFIG, seed=2, steps=4000, evaluations=1)
    distributed(task, processes, store).run([first])
    message = r"trained prompt 4 tokens, rate 0.01: .* Finished runs are kept"
    with pytest.raises(WorkerLostError, match=message) as caught:
        distributed(task, processes, store, Killing(times=2)).run([first, second])
    assert caught.value.running == ("prompt 4 tokens, rate 0.01",)
    assert store.get(store.name(task.digest, first)) is not None
    assert store.get(store.name(task.digest, second)) is None


def test_what_a_worker_cannot_write_is_an_output_error_here(task: Task, processes: Processes, tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    config = replace(CONFIG, seed=3)
    (tmp_path / store.name(task.digest, config)).write_text("a file stands in the way")
    with pytest.raises(OutputError, match="a file stands where a folder is needed") as caught:
        distributed(task, processes, store).run([config])
    assert "run_job" in str(caught.value.__cause__)  # where it happened there


def test_a_worker_with_other_software_is_refused(task: Task, processes: Processes) -> None:
    other = replace(source_of(task), software={"torch": "0.1", "promptreach": "9"})
    with pytest.raises(WorkerMismatchError, match=r"it has torch .*, its caller 0.1; it has promptreach .*, its .* 9"):
        list(processes.run_jobs([Job(other, (CONFIG,))], no_step))
