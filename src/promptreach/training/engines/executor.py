"""Who trains the runs that a search asks for: this process, worker processes, or a Ray cluster.

A search names runs by their settings and gets finished ones back, whoever trained them. It asks for all runs that do
not depend on each other at once, so that they can be trained at the same time.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from promptreach.progress import Progress, Step
from promptreach.training.engines.source import TaskSource
from promptreach.training.runs import Paused, Run, RunConfig, RunStore
from promptreach.training.side_by_side import groups, train_side_by_side
from promptreach.training.task.task import Task


@runtime_checkable
class Executor(Protocol):
    """Trains runs on one task, and keeps finished ones."""

    @property
    def task(self) -> Task:
        """What the runs train on."""

    def run(self, configs: Sequence[RunConfig]) -> list[Run]:
        """The finished run of each of `configs`, in their order; those in the store are not trained again."""


class InProcess:
    """Trains one run after another in this process, each with its own progress bar.

    Args:
        task: what the runs train on.
        store: keeps finished runs.
        progress: shows them.
        at_once: how many runs of one method and size share a forward pass, see `engines.open_engine`.
    """

    def __init__(self, task: Task, store: RunStore, progress: Progress, at_once: int = 1) -> None:
        self.task = task
        self.store = store
        self.progress = progress
        self.at_once = at_once

    def run(self, configs: Sequence[RunConfig]) -> list[Run]:
        """The finished run of each of `configs`, in their order; those in the store are not trained again."""
        found: dict[int, Run] = {}
        for indices in groups(configs, self.at_once):
            chosen = [configs[index] for index in indices]
            with self.progress.task(label_of(chosen), total=steps_of(chosen)) as step:
                found |= zip(indices, train_side_by_side(self.task, chosen, self.store, step), strict=True)
        return [found[index] for index in range(len(configs))]


@dataclass(frozen=True, eq=False)
class Work:
    """What one worker is asked to do at once.

    Attributes:
        source: how to come by the task.
        configs: one run, or several to train side by side.
        paused: for each of them what an earlier pause kept, where that does not lie in a folder that workers reach.
    """

    source: TaskSource
    configs: tuple[RunConfig, ...]
    paused: tuple[Paused | None, ...]

    @property
    def label(self) -> str:
        """A few words for people."""
        return label_of(self.configs)


@dataclass(frozen=True, eq=False)
class Done:
    """What comes back: the runs, and for those that paused what they need to go on."""

    runs: tuple[Run, ...]
    paused: tuple[Paused | None, ...]


@runtime_checkable
class Workers(Protocol):
    """Processes that do work, here or elsewhere."""

    shares_store: bool
    """Whether workers reach the folder of the caller's store, and keep their runs there themselves."""

    def do(self, works: Sequence[Work], step: Step) -> Iterator[tuple[int, Done]]:
        """Do all of `works`, in any order, and give each one's index and what came of it as soon as it is there.

        Args:
            works: what to do.
            step: told the optimiser steps taken.

        Raises:
            WorkerLostError: when two workers in a row died over the same work. No worker is left busy then.
            WorkerMismatchError: when a worker has other software or another model.
            Exception: whatever training raised, as in this process.
        """


class Distributed:
    """Has workers train runs, many at a time, and keeps what comes back.

    Guarantee: the runs are those that `InProcess` would return, bit for bit on machines of the same kind with the same
    number of threads a worker as here, times aside. A run that finished is in the store whatever happens afterwards.

    Args:
        task: what the runs train on.
        source: the same for workers.
        store: keeps finished runs.
        progress: shows how many steps are done.
        workers: do the work.
        at_once: as that of `InProcess`; the runs of two engines are equal bit for bit when it is the same.
    """

    def __init__(
        self, task: Task, source: TaskSource, store: RunStore, progress: Progress, workers: Workers, at_once: int = 1
    ) -> None:
        self.task = task
        self.store = store
        self.progress = progress
        self.workers = workers
        self.at_once = at_once
        self._source = source
        self._digest = task.digest

    def run(self, configs: Sequence[RunConfig]) -> list[Run]:
        """The finished run of each of `configs`, in their order; those in the store are not trained again."""
        names = [self.store.name(self._digest, config) for config in configs]
        found = {index: run for index, name in enumerate(names) if (run := self.store.get(name)) is not None}
        missing = [indices for indices in groups(configs, self.at_once) if not found.keys() >= set(indices)]
        known = [index for index in range(len(configs)) if all(index not in indices for indices in missing)]
        with self.progress.task(self._label(configs), total=steps_of(configs)) as step:
            step(steps_of([configs[index] for index in known]), "done before" if known else "")
            works = [self._work([configs[index] for index in indices]) for indices in missing]
            for at, done in self.workers.do(works, step):
                for index, run, paused in zip(missing[at], done.runs, done.paused, strict=True):
                    if index not in found:
                        found[index] = run
                        self._keep(names[index], run, paused)
        return [found[index] for index in range(len(configs))]

    def _label(self, configs: Sequence[RunConfig]) -> str:
        return label_of(configs) if len(configs) == 1 else f"{configs[0].method}, {len(configs)} runs"

    def _work(self, configs: Sequence[RunConfig]) -> Work:
        paused = [
            None if self._workers_store else self.store.paused(self.store.whole_name(self._digest, config))
            for config in configs
        ]
        return Work(self._source, tuple(configs), tuple(paused))

    def _keep(self, name: str, run: Run, paused: Paused | None) -> None:
        if self._workers_store:
            return
        if paused is not None:
            self.store.pause(self.store.whole_name(self._digest, run.config), *paused)
        self.store.put(name, run)

    @property
    def _workers_store(self) -> bool:
        """Whether workers keep their runs in the folder themselves."""
        return self.workers.shares_store and self.store.folder is not None


def do(work: Work, store: RunStore, step: Step) -> Done:
    """Do the work in this process, which is a worker's; `store` is what it reaches of its caller's.

    Raises:
        WorkerMismatchError: when this worker has other software or another model than its caller.
    """
    task = work.source.opened()
    names = [store.whole_name(task.digest, config) for config in work.configs]
    for name, paused in zip(names, work.paused, strict=True):
        if paused is not None:
            store.pause(name, *paused)
    runs = train_side_by_side(task, work.configs, store, step)
    if store.folder is not None:
        return Done(tuple(runs), (None,) * len(runs))
    return Done(
        tuple(runs),
        tuple(store.paused(name) if run.config.pause else None for name, run in zip(names, runs, strict=True)),
    )


def steps_of(configs: Sequence[RunConfig]) -> int:
    """The optimiser steps of these runs, if nothing stops one earlier."""
    return sum(config.last_step for config in configs)


def label_of(configs: Sequence[RunConfig]) -> str:
    """The runs of one group in a few words; they share method and size."""
    rates = ", ".join(f"{config.learning_rate:.3g}" for config in configs)
    return f"{configs[0].label}, rate {rates}"
