"""A Ray cluster, or a local one that Ray starts for the purpose. The only module that imports `ray`.

Each job is one Ray task; Ray places it, and a worker process that has the model open keeps it for the next.
Nothing is assumed to be shared between nodes but the installed packages and the model's name or path: what is needed
goes out with the task, and what is found comes back and is stored by the caller.
"""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import Any

import torch

from promptreach.errors import Fault, InputError, MissingExtraError, WorkerLostError, install_command
from promptreach.progress import Step
from promptreach.training.engines.jobs import Job, Result, run_job, steps_of

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
            check_address(self.address or os.environ.get("RAY_ADDRESS"))
            try:
                ray.init(self.address, log_to_driver=False, logging_level="ERROR")
            except (ConnectionError, RuntimeError, ValueError) as error:
                raise InputError(_no_answer(self.address, str(error).strip().partition("\n")[0])) from error
            self._is_ours = True
        return self

    def __exit__(self, *error: object) -> None:
        import ray

        if self._is_ours:
            ray.shutdown()

    def run_jobs(self, jobs: Sequence[Job], step: Step) -> Iterator[tuple[int, Result]]:
        """Run all of `jobs`, as many at once as there is room for; results in the order in which they are there."""
        import ray

        waiting = list(range(len(jobs)))[::-1]
        under_way: dict[Any, int] = {}
        try:
            while waiting or under_way:
                while waiting and (self.count is None or len(under_way) < self.count):
                    index = waiting.pop()
                    # A task whose worker dies is given to another one once.
                    task = ray.remote(run_on_cluster).options(
                        num_cpus=self.threads, num_gpus=jobs[index].source.gpus, max_retries=1
                    )
                    under_way[task.remote(jobs[index], self.threads)] = index
                (finished,), _ = ray.wait(list(under_way), num_returns=1)
                index = under_way.pop(finished)
                try:
                    result: Result = ray.get(finished)
                except ray.exceptions.RayTaskError as error:
                    raise error.cause from error
                except ray.exceptions.RayError as error:
                    reason = str(error).strip().partition("\n")[0] or type(error).__name__
                    raise WorkerLostError([jobs[index].label], reason) from error
                step(steps_of(jobs[index].configs), f"{jobs[index].label} is done")
                yield index, result
        finally:
            for reference in under_way:
                ray.cancel(reference, force=True)


def run_on_cluster(job: Job, threads: int) -> Result:
    """The result of a job, on a node of the cluster."""
    torch.set_num_threads(threads)
    return run_job(job, lambda advance=1, note="": None)


def check_address(address: str | None) -> None:
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
