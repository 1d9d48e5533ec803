"""Worker processes on this machine.

A worker is a fresh interpreter that opens the model once and then runs jobs until its caller is gone: an idle one and a
busy one both end with their caller, even with one that was killed. A worker keeps finished runs in the store's folder
itself, so that nothing finished hangs on the caller's life.
"""

import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import Synchronized
from typing import Any

import torch

from promptreach.errors import WorkerLostError
from promptreach.progress import Step
from promptreach.training.engines.jobs import Job, Result, run_job, steps_of

_TRIES = 2
"""A worker may die for reasons of its own, such as a neighbour's memory; two in a row are no accident."""
_LOOK_SECONDS = 0.05
"""Between two looks at how far the workers are."""
_LOST = 'killed, or unable to start; a script that starts workers needs `if __name__ == "__main__":`'


class Processes:
    """Local worker processes, started when there is a job; use as a context manager. Fulfils `executor.Workers`.

    Processes are spawned, so a script that uses them needs ``if __name__ == "__main__":`` around its own work.

    Args:
        count: how many at most.
        threads: of torch in each.
    """

    shares_store = True

    def __init__(self, count: int, threads: int) -> None:
        self.count = count
        self.threads = threads

    def __enter__(self) -> "Processes":
        context = multiprocessing.get_context("spawn")
        # No worker has the end that stays here: when that is closed, be it by this process' death, all of them end.
        theirs, self._lifeline = context.Pipe(duplex=False)
        self._steps: Synchronized[int] = context.Value("q", 0)
        self._pool = ProcessPoolExecutor(self.count, context, _begin, (self.threads, self._steps, theirs))
        return self

    def __exit__(self, *error: object) -> None:
        self._lifeline.close()
        self._pool.shutdown(cancel_futures=True)

    def run_jobs(self, jobs: Sequence[Job], step: Step) -> Iterator[tuple[int, Result]]:
        """Run all of `jobs`, each as soon as a worker is free; results in the order in which they are there.

        When a worker dies all are replaced, and begin again what they had not finished.
        """
        left, deaths = dict(enumerate(jobs)), 0
        while left:
            steps, told, done = self._steps.get_obj(), 0, 0  # read past the lock, which a dead worker may hold
            steps.value = 0
            futures: dict[Future[bytes], int] = {}
            try:
                futures |= {self._pool.submit(_run, pickle.dumps(job)): index for index, job in left.items()}
                while futures:
                    finished = wait(futures, _LOOK_SECONDS, FIRST_COMPLETED).done
                    now = steps.value
                    step(now - told)
                    told = now
                    for future in finished:
                        index = futures.pop(future)
                        result = pickle.loads(future.result())
                        done += steps_of(left.pop(index).configs)
                        deaths = 0
                        yield index, result
            except BrokenProcessPool as error:
                self._replace()
                step(done - told, "a worker died")
                deaths += 1
                if deaths == _TRIES:
                    running = [job.label for job in left.values()][: self.count]
                    raise WorkerLostError(running, _LOST) from error
            except BaseException:
                if futures:  # nobody waits for what the others do
                    self._replace()
                raise

    def _replace(self) -> None:
        self.__exit__()
        self.__enter__()


_steps: Any = None
"""In a worker: the count of the steps that all of them have taken."""


def _begin(threads: int, steps: "Synchronized[int]", lifeline: Connection) -> None:
    """Make this process a worker."""
    global _steps
    _steps = steps
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of a terminal; the caller decides
    torch.set_num_threads(threads)
    threading.Thread(target=_end_with, args=(lifeline,), daemon=True).start()


def _end_with(lifeline: Connection) -> None:
    with suppress(EOFError, OSError):
        lifeline.recv()
    os._exit(1)


def _run(job: bytes) -> bytes:
    """The pickled result of a pickled job: by itself a tensor would cross as a file descriptor of its sender.

    Raises:
        RuntimeError: in place of an error that cannot cross.
        Exception: whatever training raises.
    """

    def step(advance: int = 1, note: str = "") -> None:
        with _steps.get_lock():
            _steps.value += advance

    try:
        return pickle.dumps(run_job(pickle.loads(job), step))
    except Exception as error:
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:
            raise RuntimeError(f"{type(error).__name__}: {error}") from error
        raise
