"""Every engine trains the same runs, keeps them the same way, and loses none to a worker that dies.

Worker processes are started once for all tests here: a fresh interpreter with torch takes seconds.
"""

import os
import pickle
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from helpers.models import tiny_model
from helpers.same_runs import assert_same_run
from helpers.tasks import Counted, config_of, labelled, task_of
from promptreach.errors import (
    DataError,
    Fault,
    InputError,
    MissingExtraError,
    OutputError,
    PromptreachError,
    UnsupportedModelError,
    WorkerLostError,
    WorkerMismatchError,
)
from promptreach.hf import open_model
from promptreach.progress import Step
from promptreach.training.engines.engines import engine_faults, open_engine
from promptreach.training.engines.executor import Distributed, Done, InProcess, Work, Workers, do
from promptreach.training.engines.processes import Processes
from promptreach.training.engines.source import TaskSource
from promptreach.training.runs import Run, RunStore
from promptreach.training.search.sweep import sweep
from promptreach.training.task.task import Task, prepare
from promptreach.tuning import fit

CONFIG = config_of("prompt", steps=8)
CONFIGS = [replace(CONFIG, learning_rate=rate) for rate in (0.01, 0.1, 0.3)]
NOWHERE = RunStore(None)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("model"), seed=0)


def save(folder: Path, seed: int) -> Path:
    model = tiny_model("gpt2", seed=seed)
    model.model.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def task(saved: Path) -> Task:
    return prepare(open_model(saved), labelled(), longest_prompt=8)


@pytest.fixture(scope="module")
def expected(task: Task) -> list[Run]:
    return InProcess(task, NOWHERE, Counted()).run(CONFIGS)


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    with Processes(tmp_path_factory.mktemp("runs"), 2, 1) as found:
        yield found


class Elsewhere:
    """Workers that share nothing with their caller: all that crosses is bytes. They do the last piece first."""

    shares_store = False

    def __init__(self) -> None:
        self.steps: list[int] = []

    def do(self, works: Sequence[Work], step: Step) -> Iterator[tuple[int, Done]]:
        for index in reversed(range(len(works))):
            work = pickle.loads(pickle.dumps(works[index]))
            taken: list[int] = []

            def count(advance: int = 1, note: str = "", taken: list[int] = taken) -> None:
                taken.append(advance)

            done = pickle.loads(pickle.dumps(do(work, RunStore(None), count)))
            self.steps.append(sum(taken))
            step(sum(taken))
            yield index, done


def source_of(task: Task) -> TaskSource:
    source = TaskSource.of(task)
    assert source is not None
    return source


def distributed(task: Task, workers: Workers, store: RunStore, progress: Counted | None = None) -> Distributed:
    return Distributed(task, source_of(task), store, progress or Counted(), workers)


def assert_same_runs(found: Sequence[Run], expected: Sequence[Run]) -> None:
    """Bit for bit, times aside."""
    for one, other in zip(found, expected, strict=True):
        assert_same_run(replace(one, seconds=other.seconds), other)


def records(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.glob("*/run.json")}


def test_the_comparison_of_runs_sees_their_order(expected: list[Run]) -> None:
    with pytest.raises(AssertionError):
        assert_same_runs(expected, expected[::-1])


def test_worker_processes_give_the_same_runs_and_keep_them(
    task: Task, processes: Processes, expected: list[Run]
) -> None:
    store, progress = RunStore(processes.folder), Counted()
    assert_same_runs(distributed(task, processes, store, progress).run(CONFIGS), expected)
    assert progress.tasks == [("prompt, 3 runs", 24)]
    kept = [store.get(store.name(task.digest, config)) for config in CONFIGS]
    assert_same_runs([run for run in kept if run is not None], expected)

    assert processes.folder is not None
    before = records(processes.folder)
    more = [*CONFIGS, replace(CONFIG, learning_rate=0.2)]
    again = distributed(task, processes, store, progress).run(more)
    assert_same_runs(again[:3], expected)
    after = records(processes.folder)
    assert {path: after[path] for path in before} == before
    assert len(after) == 4
    assert progress.tasks[1:] == [("prompt, 4 runs", 32)]


class Killing(Counted):
    """Progress that kills a busy worker when a step of training is told, so many times."""

    def __init__(self, processes: Processes, times: int) -> None:
        super().__init__()
        self.processes = processes
        self.left = times

    @contextmanager
    def task(self, description: str, total: int | None = None) -> Iterator[Step]:
        with super().task(description, total) as count:

            def step(advance: int = 1, note: str = "") -> None:
                count(advance, note)
                if self.left and note.startswith("loss"):
                    self.left -= 1
                    os.kill(self.processes.pids[-1], signal.SIGKILL)

            yield step


def test_a_worker_that_is_killed_is_replaced(task: Task, processes: Processes) -> None:
    configs = [replace(config, steps=40, seed=1) for config in CONFIGS]
    progress = Killing(processes, times=1)
    found = distributed(task, processes, RunStore(processes.folder), progress).run(configs)
    assert progress.left == 0
    assert_same_runs(found, InProcess(task, NOWHERE, Counted()).run(configs))
    assert [steps for _, steps in progress.tasks] == [120]  # a dead worker's steps are taken back


def test_work_that_kills_two_workers_is_an_error_that_names_it(task: Task, processes: Processes) -> None:
    store = RunStore(processes.folder)
    first, second = replace(CONFIG, seed=2), replace(CONFIG, seed=2, steps=4000, evaluations=1)
    distributed(task, processes, store).run([first])
    with pytest.raises(WorkerLostError, match=r"prompt 4 tokens, rate 0.01: killed by SIGKILL") as caught:
        distributed(task, processes, store, Killing(processes, times=2)).run([first, second])
    assert caught.value.running == ("prompt 4 tokens, rate 0.01",)
    assert store.get(store.name(task.digest, first)) is not None
    assert store.get(store.name(task.digest, second)) is None


def test_what_a_worker_cannot_write_is_an_output_error_here(task: Task, processes: Processes) -> None:
    store = RunStore(processes.folder)
    config = replace(CONFIG, seed=3)
    assert processes.folder is not None
    (processes.folder / store.name(task.digest, config)).write_text("a file stands in the way")
    with pytest.raises(OutputError, match="a file stands where a folder is needed") as caught:
        distributed(task, processes, store).run([config])
    assert any("In a worker process" in note for note in caught.value.__notes__)


def test_a_worker_with_other_software_or_another_model_is_refused(
    task: Task, processes: Processes, tmp_path: Path
) -> None:
    source = source_of(task)
    other = replace(source, software={"torch": "0.1", "promptreach": "9"})
    with pytest.raises(WorkerMismatchError, match=r"it has torch .*, its caller 0.1; it has promptreach .*, its .* 9"):
        list(processes.do([Work(other, (CONFIG,), (None,))], lambda advance=1, note="": None))
    model = open_model(save(tmp_path, seed=0))
    travelling = source_of(replace(task, backbone=model))
    save(tmp_path, seed=1)
    with pytest.raises(WorkerMismatchError, match="another model"):
        travelling.opened()


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


def test_a_task_opens_its_model_once(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    source = source_of(task)
    first = source.opened()
    again = pickle.loads(pickle.dumps(source_of(replace(task, batch_size=7)))).opened()
    assert again.backbone is first.backbone
    assert again.batch_size == 7
    assert first.digest == task.digest


def test_a_model_in_memory_is_trained_here_or_refused(tmp_path: Path) -> None:
    in_memory = task_of("gpt2")
    assert TaskSource.of(in_memory) is None
    with open_engine(NOWHERE, Counted(), workers=2) as executor_of:
        assert isinstance(executor_of(in_memory), InProcess)
    with pytest.raises(InputError, match="save it to a folder"):
        fit(in_memory.backbone, labelled(), engine="ray")


def test_bad_arguments_are_refused_all_at_once() -> None:
    with pytest.raises(InputError) as caught:
        fit(tiny_model("gpt2"), labelled(), engine="slurm", workers=0, ray_address="auto", steps=0)
    assert {fault.where for fault in caught.value.faults} == {"engine", "workers", "ray_address", "steps"}
    assert engine_faults("local", None, None, "a-model") == engine_faults("ray", 2, "auto", "a-model") == []


def test_without_ray_the_extra_is_named(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("promptreach.training.engines.cluster.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r'pip install "promptreach\[ray\]"'):
        fit(saved, labelled(), engine="ray", quiet=True)


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


def test_opening_an_engine_clears_what_killed_writers_left(tmp_path: Path) -> None:
    run = tmp_path / "0123"
    run.mkdir()
    old, young, theirs = (
        run / name for name in (f".run.json.{'0' * 12}.partial", f".x.{'1' * 12}.partial", ".partial")
    )
    for path in (old, young, theirs):
        path.write_text("half")
    for path in (old, theirs):
        os.utime(path, (1e9, 1e9))
    with open_engine(RunStore(tmp_path), Counted()) as executor_of:
        assert callable(executor_of)
    assert sorted(run.iterdir()) == sorted([young, theirs])
