"""The engines by name, and the executor of a task on each of them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from promptreach.errors import Fault, InputError
from promptreach.progress import Progress
from promptreach.training.arguments import choice_faults, least_faults
from promptreach.training.engines.executor import Distributed, Executor, InProcess, Workers
from promptreach.training.engines.jobs import TaskSource
from promptreach.training.engines.processes import Processes
from promptreach.training.runs import RunStore
from promptreach.training.task.task import Task

ENGINES = ("local", "ray")


def engine_faults(engine: str, workers: int | None, ray_address: str | None, model: Any) -> list[Fault]:
    """Faults of these arguments, as far as they tell by themselves.

    Args:
        engine, workers, ray_address: see `open_engine`.
        model: what the caller wants to train, opened or not.
    """
    faults = choice_faults("engine", engine, ENGINES) + least_faults({"workers": workers})
    if ray_address is not None and engine != "ray":
        faults.append(Fault("ray_address", f"{ray_address!r} for engine {engine!r}", "left away, or engine 'ray'"))
    if engine == "ray" and not isinstance(model, str | Path) and getattr(model, "origin", None) is None:
        faults.append(_not_portable(getattr(model, "name", type(model).__name__)))
    return faults


@contextmanager
def open_engine(
    store: RunStore,
    progress: Progress,
    engine: str = "local",
    *,
    workers: int | None = None,
    ray_address: str | None = None,
    at_once: int = 1,
) -> Iterator[Callable[[Task], Executor]]:
    """A maker of executors, for as long as the block lasts.

    Args:
        store: keeps finished runs, whoever trains them. What a killed writer left half done in its folder is removed.
        progress: shows the runs.
        engine: ``"local"``: this process, or worker processes on this machine. ``"ray"``: a Ray cluster. This and the
            next two have no `engine_faults`.
        workers: how many runs may be trained at the same time. None: one locally, in this process; on Ray as many as
            the cluster has room for. More local workers share this process' torch threads evenly, and each holds a
            model of its own. One run at a time is the default: a search over three rates waits for 1.375 full runs on
            all threads, and on two workers for 1.125 on half of them, so two workers must do 1.64 times the work of
            one process to be worth their memory (``benchmarks/tuning/workers.py`` measures it).
        ray_address: see `promptreach.training.engines.cluster.Cluster`.
        at_once: how many prompts of one size, or prefixes, that are to be trained together share every forward pass of
            the frozen model. It pays where a step of one run leaves the device idle, which no CPU does; the shape of a
            batch decides the last bits of a result.

    Yields:
        A function from a task to its executor. Every executor gives the same runs, bit for bit where workers have as
        many threads and the same kind of machine as this process, and otherwise up to rounding in the model. A model
        that exists only as an object in this process is trained here by engine ``"local"``.

    Raises:
        InputError: for a Ray address that does not answer; from the function, for a model that cannot travel to a Ray
            cluster.
        MissingExtraError: for engine ``"ray"`` without the package ray.
    """
    store.clean()
    if engine == "ray":
        from promptreach.training.engines.cluster import Cluster

        with Cluster(ray_address, workers, torch.get_num_threads()) as cluster:
            yield lambda task: _distributed(task, store, progress, cluster, at_once)
    elif workers is None or workers == 1:
        yield lambda task: InProcess(task, store, progress, at_once)
    else:
        threads = max(1, torch.get_num_threads() // workers)
        with Processes(workers, threads) as processes:
            yield lambda task: _distributed(task, store, progress, processes, at_once)


def _distributed(task: Task, store: RunStore, progress: Progress, workers: Workers, at_once: int) -> Executor:
    source = TaskSource.of(task)
    if source is not None:
        return Distributed(task, source, store, progress, workers, at_once)
    if workers.shares_store:
        return InProcess(task, store, progress, at_once)
    raise InputError(_not_portable(task.backbone.name))


def _not_portable(name: str) -> Fault:
    seen = f"{name}, which exists only in this process"
    expected = "a hub id, a folder or a file, which a worker can open too"
    return Fault("model", seen, expected, "save it to a folder and pass that, or use engine 'local'")
