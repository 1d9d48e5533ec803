"""kill -9 in the middle of a sweep: what was finished stays, what was not is done, and the answer is the same.

Run as a script, this file is the sweep that a test kills: python test_runs_kill_attack.py FOLDER [MODEL]. With the
folder of a model it trains on two worker processes, otherwise by itself.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import torch

import promptreach
from helpers import tasks
from helpers.same_runs import assert_same_runs
from helpers.tasks import Counted, config_of, labelled, model_of
from promptreach import files
from promptreach.hf import open_model
from promptreach.progress import Progress, Step
from promptreach.training.engines.engines import open_engine
from promptreach.training.engines.executor import InProcess
from promptreach.training.runs import RunStore
from promptreach.training.search.sweep import Sweep, sweep
from promptreach.training.task.task import prepare

PATHS = [Path(tasks.__file__).parents[1], Path(__file__).parent, Path(promptreach.__file__).parents[1]]
RATES = (0.01, 0.03, 0.1, 0.3)
RUNS = 3 * 4 + 1
"""Nothing is dropped while no candidate has left the start: four on each of three rungs, and the full run."""


def run(folder: Path, progress: Progress) -> Sweep:
    """Four trials, longer and longer, and the full run, kept in `folder`."""
    task = prepare(model_of("gpt2"), labelled(), longest_prompt=4)
    return sweep(InProcess(task, RunStore(folder), progress), config_of("prompt", steps=48), RATES)


class Slow(Progress):
    """Every step takes long enough for the run to be caught in the middle."""

    @contextmanager
    def task(self, description: str, total: int | None = None) -> Iterator[Step]:
        def step(advance: int = 1, note: str = "") -> None:
            time.sleep(0.05)

        yield step


def run_on_workers(folder: Path, model: Path, workers: int) -> Sweep:
    """A longer sweep on that many worker processes."""
    task = prepare(open_model(model), labelled(), longest_prompt=4)
    config = config_of("prompt", steps=240, patience=99)
    with open_engine(RunStore(folder), Counted(), workers=workers) as executor_of:
        return sweep(executor_of(task), config, RATES)


def finished(folder: Path) -> dict[str, int]:
    """The time of change of every finished run, by name."""
    return {path.parent.name: path.stat().st_mtime_ns for path in folder.glob("*/run.json")}


def kill_after(folder: Path, runs: int, *model: Path, delay: float = 0.0, patience: float = 120.0) -> int:
    """Start the sweep as a process group of its own, and kill its first process `delay` seconds after so many runs.

    Returns:
        The number of the group.
    """
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, PATHS))}
    call = [sys.executable, __file__, *map(str, (folder, *model))]
    process = subprocess.Popen(call, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + patience
    while len(finished(folder)) < runs and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.stderr is not None
    assert process.returncode == -signal.SIGKILL, process.stderr.read()
    return process.pid


def wait_until_gone(group: int, patience: float = 60.0) -> None:
    """Return once no process of the group is left."""
    deadline = time.monotonic() + patience
    with suppress(ProcessLookupError):
        while time.monotonic() < deadline:
            os.killpg(group, 0)
            time.sleep(0.05)
        os.killpg(group, signal.SIGKILL)
        raise AssertionError("workers outlived their caller")


def assert_same_sweeps(resumed: Sweep, expected: Sweep) -> None:
    """The same runs, bit for bit, times aside."""
    assert resumed.best.held_out is not None
    assert_same_runs((*resumed.trials, resumed.best), (*expected.trials, expected.best))


def test_a_killed_sweep_goes_on_where_it_was(tmp_path: Path) -> None:
    killed, undisturbed = tmp_path / "killed", tmp_path / "undisturbed"
    kill_after(killed, runs=2)
    before = finished(killed)
    assert 2 <= len(before) < RUNS

    resumed, expected = (run(folder, Counted()) for folder in (killed, undisturbed))
    after = finished(killed)
    assert len(after) == RUNS
    assert {name: after[name] for name in before} == before
    assert set(after) == set(finished(undisturbed))
    assert_same_sweeps(resumed, expected)


def test_a_sweep_on_workers_killed_at_any_moment_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "model"
    model_of("gpt2").model.save_pretrained(model)
    model_of("gpt2").tokenizer.save_pretrained(model)
    killed, undisturbed = tmp_path / "killed", tmp_path / "undisturbed"
    delay = random.Random(0).uniform(0.0, 0.5)
    wait_until_gone(kill_after(killed, 2, model, delay=delay))
    before = finished(killed)
    assert len(before) >= 2
    monkeypatch.setattr(files, "STARTED", time.time())  # who goes on began after the kill; this process did not
    resumed, expected = (run_on_workers(folder, model, 1) for folder in (killed, undisturbed))
    assert before.items() <= finished(killed).items()
    assert finished(killed).keys() == finished(undisturbed).keys()
    assert not list(killed.rglob("*.partial"))
    assert_same_sweeps(resumed, expected)


if __name__ == "__main__":
    torch.set_num_threads(1)
    if len(sys.argv) == 2:
        run(Path(sys.argv[1]), Slow(quiet=True))
    else:
        run_on_workers(Path(sys.argv[1]), Path(sys.argv[2]), 2)
