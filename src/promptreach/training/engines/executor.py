"""The executors of the runs that a search asks for: this process, worker processes, or a Ray cluster.

A search names runs by their settings and gets finished ones back, whoever trained them. It asks for all runs that do
not depend on each other at once, so that they can be trained at the same time.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from promptreach.progress import Progress, Step
from promptreach.training.engines.jobs import Job, Result, TaskSource, label_of, steps_of
from promptreach.training.runs import Paused, Run, RunConfig, RunStore
from promptreach.training.side_by_side import groups, train_side_by_side
from promptreach.training.task.task import Task


@runtime_checkable
class Executor(Protocol):
    """Trains runs on one task, and keeps finished ones."""

    @property
    def task(self) -> Task:
        """The task that the runs train on."""

    def run(self, configs: Sequence[RunConfig]) -> list[Run]:
        """The finished run of each of `configs`, in their order; those in the store are not trained again."""


@dataclass(frozen=True, eq=False)
class InProcess:
    """Trains one run after another in this process, each with its own progress bar.

    Attributes:
        task: what the runs train on.
        store: keeps finished runs.
        progress: shows them.
        at_once: how many runs of one method and size share a forward pass, see `engines.open_engine`.
    """

    task: Task
    store: RunStore
    progress: Progress
    at_once: int = 1

    def run(self, configs: Sequence[RunConfig]) -> list[Run]:
        """The finished run of each of `configs`, in their order; those in the store are not trained again."""
        found: dict[int, Run] = {}
        for indices in groups(configs, self.at_once):
            chosen = [configs[index] for index in indices]
            with self.progress.task(label_of(chosen), total=steps_of(chosen)) as step:
                found |= zip(indices, train_side_by_side(self.task, chosen, self.store, step), strict=True)
        return [found[index] for index in range(len(configs))]


@runtime_checkable
class Workers(Protocol):
    """Processes that run jobs, here or elsewhere."""

    shares_store: bool
    """Whether workers reach the folder of the caller's store, and keep their runs there themselves."""

    def run_jobs(self, jobs: Sequence[Job], step: Step) -> Iterator[tuple[int, Result]]:
        """Run all of `jobs`, in any order, and give each one's index and its result as soon as it is there.

        Args:
            jobs: what to train.
            step: told the optimiser steps taken.

        Raises:
            WorkerLostError: when two workers in a row died over the same job. No worker is left busy then.
            WorkerMismatchError: when a worker has other software or another model.
            Exception: whatever training raised, as in this process.
        """


@dataclass(frozen=True, eq=False)
class Distributed:
    """Has workers train runs, many at a time, and keeps what comes back.

    Guarantee: the runs are those that `InProcess` would return, bit for bit on machines of the same kind with the same
    number of threads a worker as here, times aside. A run that finished is in the store whatever happens afterwards.

    Attributes:
        task: what the runs train on.
        source: the same for workers.
        store: keeps finished runs.
        progress: shows how many steps are done.
        workers: do the work.
        at_once: as that of `InProcess`; the runs of two engines are equal bit for bit when it is the same.
    """

    task: Task
    source: TaskSource
    store: RunStore
    progress: Progress
    workers: Workers
    at_once: int = 1

    def run(self, configs: Sequence[RunConfig]) -> list[Run]:
        """The finished run of each of `configs`, in their order; those in the store are not trained again."""
        names = [self.store.name(self.source.digest, config) for config in configs]
        found = {index: run for index, name in enumerate(names) if (run := self.store.get(name)) is not None}
        missing = [indices for indices in groups(configs, self.at_once) if not found.keys() >= set(indices)]
        jobs = [self._job([configs[index] for index in indices]) for indices in missing]
        known = steps_of(configs) - sum(steps_of(job.configs) for job in jobs)
        methods = " and ".join(dict.fromkeys(config.method for config in configs))
        label = label_of(configs) if len(configs) == 1 else f"{methods}, {len(configs)} runs"
        with self.progress.task(label, total=steps_of(configs)) as step:
            step(known, "done before" if known else "")
            for at, result in self.workers.run_jobs(jobs, step):
                for index, run, paused in zip(missing[at], result.runs, result.paused, strict=True):
                    if index not in found:
                        found[index] = run
                        self._keep(names[index], run, paused)
        return [found[index] for index in range(len(configs))]

    def _job(self, configs: Sequence[RunConfig]) -> Job:
        if self._stored_by_workers:
            return Job(self.source, tuple(configs), self.store.folder)
        names = [self.store.whole_name(self.source.digest, config) for config in configs]
        return Job(self.source, tuple(configs), None, tuple(map(self.store.paused, names)))

    def _keep(self, name: str, run: Run, paused: Paused | None) -> None:
        if self._stored_by_workers:
            return
        if paused is not None:
            self.store.pause(self.store.whole_name(self.source.digest, run.config), *paused)
        self.store.put(name, run)

    @property
    def _stored_by_workers(self) -> bool:
        return self.workers.shares_store and self.store.folder is not None
