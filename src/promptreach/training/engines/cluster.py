"""A Ray cluster, or a local one that Ray starts for the purpose. The only module that imports `ray`.

Each piece of work is one Ray task; Ray places it, and a worker process that has the model open keeps it for the next.
Nothing is assumed to be shared between nodes but the installed packages and the model's name or path: what is needed
goes out with the task, and what is found comes back and is stored by the caller.
"""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from types import TracebackType
from typing import Any

import torch

from promptreach.errors import Fault, InputError, MissingExtraError, WorkerLostError, install_command
from promptreach.progress import Step
from promptreach.training.engines.executor import Done, Work, do, steps_of
from promptreach.training.runs import RunStore

ANSWER_SECONDS = 20.0
"""How long a cluster may take to answer its health check; an idle one takes about two."""
_CONNECT_SECONDS = 3.0


class Cluster:
    """Ray as a place to train; use as a context manager. Fulfils `executor.Workers`.

    A task asks for as many CPUs as it uses threads, and for as many GPUs as its model is spread over. The packages must
    be installed on every node in the same versions as here, and a model given as a path must lie there under that path.
    Ray numbers a task's GPUs anew, so a model on one goes to ``"cuda"``, not to ``"cuda:1"``.

    Args:
        address: what `ray.init` takes: None joins the cluster that RAY_ADDRESS names or that this machine runs, and
            starts one here otherwise; ``"auto"``, ``"local"``, ``"host:port"``, ``"ray://host:port"``. Where this
            process is connected already, that connection is used and left open.
        count: how many tasks may be under way at once; None leaves it to Ray.
        threads: of torch in each.

    Raises:
        MissingExtraError: without the package ray.
        InputError: on entering, for an address that does not answer within `ANSWER_SECONDS`.
    """

    shares_store = False

    def __init__(self, address: str | None, count: int | None, threads: int) -> None:
        if find_spec("ray") is None:
            raise MissingExtraError(Fault("engine", "'ray', without the package", "ray", install_command("ray")))
        self.address = address
        self.count = count
        self.threads = threads
        self._is_ours = False

    def __enter__(self) -> "Cluster":
        import ray

        if not ray.is_initialized():
            _check_address(self.address or os.environ.get("RAY_ADDRESS"))
            try:
                ray.init(self.address, log_to_driver=False, logging_level="ERROR")
            except (ConnectionError, RuntimeError, ValueError) as error:
                raise InputError(_no_answer(self.address, str(error).strip().partition("\n")[0])) from error
            self._is_ours = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        import ray

        if self._is_ours:
            ray.shutdown()

    def do(self, works: Sequence[Work], step: Step) -> Iterator[tuple[int, Done]]:
        """Do all of `works`, as many at once as there is room for, in the order in which they finish."""
        import ray

        waiting = list(enumerate(works))[::-1]
        under_way: dict[Any, int] = {}
        try:
            while waiting or under_way:
                while waiting and (self.count is None or len(under_way) < self.count):
                    index, work = waiting.pop()
                    under_way[self._task(work).remote(work, self.threads)] = index
                finished, _ = ray.wait(list(under_way), num_returns=1)
                index = under_way.pop(finished[0])
                done = _result(finished[0], works[index])
                step(steps_of(works[index].configs), f"{works[index].label} is done")
                yield index, done
        finally:
            for reference in under_way:
                ray.cancel(reference, force=True)

    def _task(self, work: Work) -> Any:
        """`_work` as a Ray task with the room that it needs; a worker that dies is replaced once."""
        import ray

        return ray.remote(_work).options(num_cpus=self.threads, num_gpus=work.source.gpus, max_retries=1)


def _work(work: Work, threads: int) -> Done:
    """What runs on the cluster."""
    torch.set_num_threads(threads)
    return do(work, RunStore(None), lambda advance=1, note="": None)


def _result(reference: Any, work: Work) -> Done:
    """What came of a task.

    Raises:
        WorkerLostError: when its worker, its node or its memory gave way twice.
        Exception: what the training raised.
    """
    import ray

    try:
        done: Done = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error
    except ray.exceptions.RayError as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise WorkerLostError([work.label], reason) from error
    return done


def _check_address(address: str | None) -> None:
    """Refuse an address that does not answer; Ray itself would try for minutes, and cannot be interrupted.

    Raises:
        InputError: naming it.
    """
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return  # a name such as "auto", which Ray looks up at once
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS).close()
    except OSError as error:
        raise InputError(_no_answer(address, f"nothing answers there ({error})")) from error
    if address is not None and address.startswith("ray://"):
        return
    check = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", f"{host}:{port}"]
    try:
        subprocess.run(check, capture_output=True, check=True, timeout=ANSWER_SECONDS, text=True)
    except subprocess.TimeoutExpired as error:
        raise InputError(_no_answer(address, f"no answer as of a Ray cluster in {ANSWER_SECONDS:.0f} s")) from error
    except subprocess.CalledProcessError as error:
        reason = error.stderr.strip().rpartition("\n")[2]
        raise InputError(_no_answer(address, f"no Ray cluster in good health ({reason})")) from error


def _no_answer(address: str | None, seen: str) -> Fault:
    remedy = "check the address, or leave it away to use this machine"
    return Fault(f"ray_address {address!r}", seen, "the address of a running Ray cluster", remedy)
