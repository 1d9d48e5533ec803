"""Work on what strangers wrote, in a process of its own with an end to its time and its memory.

What cannot be interrupted from Python (a template that multiplies a text, a loop without an end) is ended by the system
there, and takes nothing of the caller with it.
"""

import json
import os
import select
import signal
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

_PIECE = 2**20
_ASLEEP = 10
"""How many times the processor time the clock may show: a busy machine refuses nothing, and what sleeps ends."""


def limited(work: Callable[[], Any], seconds: float, memory: int) -> Any:
    """The value that `work` returns, as JSON knows it, made in a forked process within these limits.

    Where the system cannot fork, `work` runs here and without limits.

    Args:
        work: calls nothing that needs threads of this process, such as torch.
        seconds: of processor time; by the clock ten times as many.
        memory: bytes beyond what this process has now, where the system knows such a limit.

    Raises:
        TimeoutError: when it has not ended in time.
        MemoryError: when it wanted more memory, or ended without a word.
        ValueError: with the text of what `work` raised.
    """
    if not hasattr(os, "fork"):
        return work()
    ours, theirs = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads, which the child does not use
        child = os.fork()
    if child == 0:
        os.close(ours)
        _answer(work, theirs, seconds, memory)
    os.close(theirs)
    answer = None
    try:
        answer = _read(ours, time.monotonic() + _ASLEEP * seconds)
    finally:
        os.close(ours)
        if answer is None:
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    if answer is None or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU):
        raise TimeoutError
    if not answer:
        raise MemoryError
    found = json.loads(answer)
    if "raised" in found:
        raise ValueError(found["raised"])
    return found["value"]


def _answer(work: Callable[[], Any], pipe: int, seconds: float, memory: int) -> None:
    """The child's whole life: limits, work, answer, end; nothing of the caller's is cleaned up here."""
    try:
        _set_limits(seconds, memory)
        try:
            answer = {"value": work()}
        except MemoryError:
            os._exit(1)
        except Exception as error:
            answer = {"raised": f"{type(error).__name__}: {error}"[:1000]}
        with os.fdopen(pipe, "wb") as stream:
            stream.write(json.dumps(answer).encode())
    finally:
        os._exit(0)


def _set_limits(seconds: float, memory: int) -> None:
    import resource

    processor = max(1, round(seconds))
    resource.setrlimit(resource.RLIMIT_CPU, (processor, processor + 1))
    with suppress(OSError, ValueError, IndexError):  # elsewhere than on Linux the size is not known
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        _, most = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + memory, most))


def _read(pipe: int, deadline: float) -> bytes | None:
    """All that comes through the pipe until its end; None where that is not before the deadline."""
    pieces: list[bytes] = []
    while (left := deadline - time.monotonic()) > 0:
        if not select.select([pipe], [], [], left)[0]:
            break
        piece = os.read(pipe, _PIECE)
        if not piece:
            return b"".join(pieces)
        pieces.append(piece)
    return None
