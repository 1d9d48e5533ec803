"""Worker processes on this machine.

A worker is a fresh interpreter that opens the model once and then does work until its caller is gone. It keeps finished
runs in the store's folder itself, so that nothing finished hangs on the caller's life; and since every step is told to
the caller, a worker whose caller was killed ends with the next step instead of training for nobody.
"""

import multiprocessing
import pickle
import signal
import traceback
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import torch

from promptreach.errors import WorkerLostError
from promptreach.progress import Step
from promptreach.training.engines.executor import Done, Work, do
from promptreach.training.runs import RunStore

_TRIES = 2
"""A worker may die for reasons of its own, such as a neighbour's memory; the same work killing two is no accident."""
_PATIENCE = 5.0
"""Seconds for a process to end before it is killed."""


@dataclass(eq=False)
class _Worker:
    """One process, and what it is doing: the work's index, and the steps told so far."""

    process: BaseProcess
    connection: Connection
    index: int = -1
    steps: int = 0


class Processes:
    """Local worker processes, started when there is work; use as a context manager. Fulfils `executor.Workers`.

    Processes are spawned, so a script that uses them needs ``if __name__ == "__main__":`` around its own work.

    Args:
        folder: of the caller's store, which workers write to; None sends runs back only.
        count: how many at most.
        threads: of torch in each.
    """

    shares_store = True

    def __init__(self, folder: Path | None, count: int, threads: int) -> None:
        self.folder = folder
        self.count = count
        self.threads = threads
        self._idle: list[_Worker] = []
        self._busy: dict[Connection, _Worker] = {}

    def __enter__(self) -> "Processes":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(*self._idle, *self._busy.values())
        self._idle, self._busy = [], {}

    @property
    def pids(self) -> list[int]:
        """The processes, those that are busy last."""
        workers = [*self._idle, *self._busy.values()]
        return [worker.process.pid for worker in workers if worker.process.pid is not None]

    def do(self, works: Sequence[Work], step: Step) -> Iterator[tuple[int, Done]]:
        """Do all of `works`, each at once when a worker is free, in the order in which they finish."""
        waiting = deque(range(len(works)))
        deaths = dict.fromkeys(waiting, 0)
        try:
            while waiting or self._busy:
                while waiting and len(self._busy) < self.count:
                    self._hand_out(waiting.popleft(), works)
                for connection in wait(list(self._busy)):
                    worker = self._busy[cast(Connection, connection)]
                    try:
                        kind, content = pickle.loads(worker.connection.recv_bytes())
                    except (EOFError, OSError):
                        lost = self._bury(worker)
                        step(-worker.steps, "a worker died")
                        deaths[worker.index] += 1
                        if deaths[worker.index] == _TRIES:
                            raise WorkerLostError([works[worker.index].label], lost) from None
                        waiting.appendleft(worker.index)
                        continue
                    if kind == "step":
                        worker.steps += content[0]
                        step(*content)
                        continue
                    self._idle.append(self._busy.pop(worker.connection))
                    if kind == "error":
                        raise content
                    yield worker.index, content
        finally:
            # After an error nobody waits for what the others do.
            self._end(*self._busy.values())
            self._busy = {}

    def _hand_out(self, index: int, works: Sequence[Work]) -> None:
        dead = [worker for worker in self._idle if not worker.process.is_alive()]
        self._idle = [worker for worker in self._idle if worker not in dead]
        self._end(*dead)
        worker = self._idle.pop() if self._idle else self._started()
        worker.index, worker.steps = index, 0
        self._busy[worker.connection] = worker
        with suppress(OSError):  # should it die now, the next look finds it
            worker.connection.send_bytes(pickle.dumps(works[index]))

    def _started(self) -> _Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, self.folder, self.threads), daemon=True)
        process.start()
        theirs.close()  # or its end would not be seen
        return _Worker(process, ours)

    def _bury(self, worker: _Worker) -> str:
        """Take leave of a dead worker; the reason in a few words."""
        del self._busy[worker.connection]
        worker.process.join(_PATIENCE)
        self._end(worker)
        code = worker.process.exitcode or 0
        if code < 0:
            return f"killed by {signal.Signals(-code).name}"
        return f'exit status {code}; a script that starts workers needs `if __name__ == "__main__":`'

    def _end(self, *workers: _Worker) -> None:
        for worker in workers:
            worker.connection.close()
            if worker.process.exitcode is None:
                worker.process.terminate()
        for worker in workers:
            worker.process.join(_PATIENCE)
            if worker.process.exitcode is None:
                worker.process.kill()
                worker.process.join()


def _serve(connection: Connection, folder: Path | None, threads: int) -> None:
    """A worker's life: do work until the caller is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of a terminal; the caller decides
    torch.set_num_threads(threads)

    def tell(kind: str, content: Any) -> None:
        # Pickled here, since a pipe would send a tensor as a file descriptor, which dies with its sender.
        connection.send_bytes(pickle.dumps((kind, content)))

    def step(advance: int = 1, note: str = "") -> None:
        tell("step", (advance, note))

    with suppress(EOFError, ConnectionError):
        while True:
            work = pickle.loads(connection.recv_bytes())
            try:
                done = do(work, RunStore(folder), step)
            except ConnectionError:
                raise
            except Exception as error:
                tell("error", _sendable(error))
            else:
                tell("done", done)


def _sendable(error: Exception) -> Exception:
    """`error` with its traceback as a note, or its traceback alone where it cannot be pickled."""
    trace = traceback.format_exc()
    try:
        error.add_note(f"In a worker process:\n{trace}")
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(trace)
    return error
