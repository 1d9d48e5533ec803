"""kill -9 while capacity is measured: finished points stay, the others are measured, and the answer is the same.

Run as a script, this file is the measurement that the test kills: python test_measure_kill_attack.py FOLDER
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch

import promptreach
from helpers import tasks
from promptreach.capacity import memorise
from promptreach.tuning import Capacity, MemorySettings, capacity

PATHS = [Path(tasks.__file__).parents[1], Path(promptreach.__file__).parents[1]]


def run(folder: Path) -> Capacity:
    """Four points, kept in `folder`."""
    return capacity(
        tasks.model_of("gpt2"),
        methods=("prompt", "prefix"),
        tokens=(1, 2),
        kinds=("random",),
        sequences=2,
        longest=16,
        settings=MemorySettings(steps=8),
        folder=folder,
        quiet=True,
    )


def finished(folder: Path) -> dict[str, int]:
    """The time of change of every finished point, by name."""
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.json")}


def test_a_killed_measurement_goes_on_where_it_was(tmp_path: Path) -> None:
    killed, undisturbed = tmp_path / "killed", tmp_path / "undisturbed"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, PATHS))}
    process = subprocess.Popen(
        [sys.executable, __file__, str(killed)], env=environment, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while len(finished(killed)) < 2 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    _, complaint = process.communicate()
    assert process.returncode == -signal.SIGKILL, complaint
    before = finished(killed)
    assert 2 <= len(before) < 4

    resumed, expected = run(killed), run(undisturbed)
    after = finished(killed)
    assert len(after) == 4
    assert {name: after[name] for name in before} == before
    assert set(after) == set(finished(undisturbed))
    assert resumed.rows == expected.rows


if __name__ == "__main__":
    torch.set_num_threads(1)
    quick = memorise.scored

    def slow(*arguments, **options):  # every step takes long enough to be caught in the middle
        time.sleep(0.05)
        return quick(*arguments, **options)

    memorise.scored = slow
    run(Path(sys.argv[1]))
