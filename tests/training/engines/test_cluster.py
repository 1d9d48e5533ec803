"""The same runs on a real Ray cluster, which a test session starts once on this machine.

Starting it takes seconds and every worker loads torch, so the tests are few: one whole fit, one death, bad addresses.
"""

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from helpers.same_runs import assert_same_runs
from helpers.tasks import Counted, config_of, labelled, no_step
from helpers.workers import distributed, save, source_of
from promptreach.errors import InputError, WorkerLostError, WorkerMismatchError
from promptreach.hf import open_model
from promptreach.training.engines import cluster as cluster_module
from promptreach.training.engines.cluster import Cluster
from promptreach.training.engines.executor import InProcess
from promptreach.training.engines.jobs import Job, Result
from promptreach.training.runs import RunStore
from promptreach.training.task.task import Task, prepare
from promptreach.tuning import fit

ray = pytest.importorskip("ray", reason="needs the package ray (the extra [ray])")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    with Cluster(None, None, 1) as found:
        yield found
    assert ray.is_initialized()  # a connection that was there before stays
    ray.shutdown()


@pytest.fixture(scope="module")
def task(saved: Path) -> Task:
    return prepare(open_model(saved), labelled(), longest_prompt=8)


def test_a_fit_on_ray_is_the_fit_here(saved: Path, cluster: Cluster, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"tokens": 4, "steps": 16, "limits": None, "quiet": True}
    here = fit(saved, labelled(), **settings)
    there = fit(saved, labelled(), **settings, folder=tmp_path, engine="ray")
    assert_same_runs([there], [here])
    names = {path.parent.name: path.stat().st_mtime_ns for path in tmp_path.glob("*/run.json")}
    assert len(names) > 1
    fit(saved, labelled(), **settings, folder=tmp_path, engine="ray")
    assert {path.parent.name: path.stat().st_mtime_ns for path in tmp_path.glob("*/run.json")} == names


def deadly() -> Callable[[Job, int], Result]:
    """Kills its worker the first time, and always where the run's seed is 9."""

    def run_or_die(job: Job, threads: int) -> Result:  # local, so that it travels as it is
        marker = Path(str(job.source.parts["train"].source))
        if job.configs[0].seed == 9 or not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return cluster_module.run_on_cluster(job, threads)  # there the module is as it was

    return run_or_die


def test_a_dead_worker_is_replaced_once(
    cluster: Cluster, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marked = replace(task, train=replace(task.train, source=str(tmp_path / "marker")))
    monkeypatch.setattr(cluster_module, "run_on_cluster", deadly())
    executor = distributed(marked, cluster, RunStore(tmp_path / "runs"))
    good, deadly_one = config_of("prompt"), config_of("prompt", seed=9)
    assert_same_runs(executor.run([good]), InProcess(task, RunStore(None), Counted()).run([good]))
    with pytest.raises(WorkerLostError, match="prompt 4 tokens"):
        executor.run([good, deadly_one])
    assert len(list(tmp_path.glob("runs/*/run.json"))) == 1


def test_what_a_worker_refuses_is_refused_here(cluster: Cluster, task: Task) -> None:
    other = replace(source_of(task), software={"torch": "0.1"})
    job = Job(other, (config_of("prompt"),), None, (None,))
    with pytest.raises(WorkerMismatchError, match=r"its caller 0\.1"):
        list(cluster.run_jobs([job], no_step))


def test_a_cluster_that_answers_passes(cluster: Cluster) -> None:
    cluster_module.check_address(ray.get_runtime_context().gcs_address)


@pytest.mark.parametrize("kind", ["closed port", "silent port", "no such cluster"])
def test_an_address_that_does_not_answer_is_refused_soon(
    kind: str, monkeypatch: pytest.MonkeyPatch, saved: Path
) -> None:
    monkeypatch.setattr(cluster_module, "ANSWER_SECONDS", 2.0)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        if kind == "closed port":
            server.close()
        address = f"127.0.0.1:{port}" if kind != "no such cluster" else "ray://127.0.0.1:1"
        began = time.monotonic()
        with pytest.raises(InputError, match=rf"ray_address '{address}'.*Check the address"):
            fit(saved, labelled(), engine="ray", ray_address=address, quiet=True)
        assert time.monotonic() - began < 30
