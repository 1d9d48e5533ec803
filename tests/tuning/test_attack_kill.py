"""kill -9 in the middle of a sweep: what was finished stays, what was not is done, and the answer is the same.

Run as a script, this file is the sweep that the test kills: python test_attack_kill.py FOLDER
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

import planted
import promptreach
from planted import Counted, config_of, labelled, model_of
from promptreach.progress import Progress, Step
from promptreach.tuning.runs import RunStore
from promptreach.tuning.sweep import Sweep, sweep
from promptreach.tuning.task import prepare

PATHS = [Path(planted.__file__).parent, Path(promptreach.__file__).parents[1]]
RATES = (0.01, 0.03, 0.1, 0.3)


def run(folder: Path, progress: Progress) -> Sweep:
    """Four trials and the full run, kept in `folder`."""
    task = prepare(model_of("gpt2"), labelled(), longest_prompt=4)
    return sweep(task, config_of("prompt", steps=16), RunStore(folder), progress, RATES)


class Slow(Progress):
    """Every step takes long enough for the run to be caught in the middle."""

    @contextmanager
    def task(self, description: str, total: int | None = None) -> Iterator[Step]:
        def step(advance: int = 1, note: str = "") -> None:
            time.sleep(0.05)

        yield step


def finished(folder: Path) -> dict[str, int]:
    """The time of change of every finished run, by name."""
    return {path.parent.name: path.stat().st_mtime_ns for path in folder.glob("*/run.json")}


def kill_after(folder: Path, runs: int, patience: float = 120.0) -> None:
    """Start the sweep as a process of its own, and kill it once so many runs are finished."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, PATHS))}
    process = subprocess.Popen(
        [sys.executable, __file__, str(folder)], env=environment, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + patience
    while len(finished(folder)) < runs and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    _, complaint = process.communicate()
    assert process.returncode == -signal.SIGKILL, complaint


def test_a_killed_sweep_goes_on_where_it_was(tmp_path: Path) -> None:
    killed, undisturbed = tmp_path / "killed", tmp_path / "undisturbed"
    kill_after(killed, runs=2)
    before = finished(killed)
    assert 2 <= len(before) < 5  # four trials and the full run
    assert len(list(killed.iterdir())) > len(before)  # it was killed in the middle of a run

    resumed, expected = (run(folder, Counted()) for folder in (killed, undisturbed))
    after = finished(killed)
    assert len(after) == 5
    assert {name: after[name] for name in before} == before
    assert set(after) == set(finished(undisturbed))

    assert resumed.best.config == expected.best.config
    for one, other in zip((*resumed.trials, resumed.best), (*expected.trials, expected.best), strict=True):
        assert torch.equal(one.state["embeddings"], other.state["embeddings"])
        assert torch.equal(one.head["weight"], other.head["weight"])
        assert torch.equal(one.validation.loss, other.validation.loss)
        assert [look.validation_loss for look in one.curve] == [look.validation_loss for look in other.curve]
    assert resumed.best.held_out is not None
    assert expected.best.held_out is not None
    assert torch.equal(resumed.best.held_out.loss, expected.best.held_out.loss)


if __name__ == "__main__":
    torch.set_num_threads(1)
    run(Path(sys.argv[1]), Slow(quiet=True))
