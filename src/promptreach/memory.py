"""Memory: how much this process can still have, and the one error for an allocation that cannot be had.

Libraries end in many ways where memory is short: Python and NumPy raise MemoryError, torch a RuntimeError that names an
allocator, a BLAS prints a line and ends the process. So what needs much asks first (`require`), and what is raised
nevertheless becomes a `MemoryShortError` with the estimate beside it (`shortage_named`).
"""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from promptreach.errors import MemoryShortError

_CGROUP = Path("/sys/fs/cgroup")
_TORCH = re.compile(r"can't allocate memory|out of memory|not enough memory|bad_alloc|Cannot allocate memory", re.I)
_REMEDY = "Take fewer rows, a smaller model or only its first layers (num_layers), or a machine with more memory."


def available_memory() -> int | None:
    """Bytes that this process can still have: the least of what the system, its container and its limits leave.

    None where none of them tells.
    """
    left = []
    with suppress(OSError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        left.append(1024 * int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1]))
    with suppress(OSError, ValueError):  # "max" where there is no limit
        used = int((_CGROUP / "memory.current").read_text()) - _reclaimable()
        left.append(int((_CGROUP / "memory.max").read_text()) - used)
    with suppress(ImportError, OSError, ValueError, IndexError):
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit != resource.RLIM_INFINITY:
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            left.append(limit - pages * resource.getpagesize())
    return max(0, min(left)) if left else None


def peak_memory() -> int:
    """The most bytes that this process held at once so far, in main memory; 0 where the system does not tell."""
    with suppress(ImportError, OSError):
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return 0


def require(needed: int, what: str) -> None:
    """Refuse work that certainly cannot be done, before it begins.

    Args:
        needed: bytes that it takes at least.
        what: takes them, for the message.

    Raises:
        MemoryShortError: when the system tells that it has less.
    """
    left = available_memory()
    if left is not None and needed > left:
        raise MemoryShortError(f"{what} takes at least {_gib(needed)}; {_gib(left)} can be had. {_REMEDY}")


@contextmanager
def shortage_named(what: str, needed: int | None = None) -> Iterator[None]:
    """Turn every kind of failed allocation in the block into one error.

    Args:
        what: was being done.
        needed: bytes that it was estimated to take.

    Raises:
        MemoryShortError: in the place of any of them.
    """
    try:
        yield
    except Exception as error:
        if not is_shortage(error):
            raise
        raise MemoryShortError(shortage_text(what, error, needed)) from error


def is_shortage(error: BaseException) -> bool:
    """Whether an error says that an allocation could not be had."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError | OSError) and bool(_TORCH.search(str(error)))
    )


def shortage_text(what: str, error: BaseException, needed: int | None = None) -> str:
    """The message for an allocation that failed: what was tried, the estimate, and what there was."""
    tried = re.search(r"(?:allocate|Tried to allocate) ([\d.]+ ?\w*i?B|\d+ bytes)", str(error))
    left = available_memory()
    parts = [
        f"out of memory while {what}",
        tried and f"{tried[1]} could not be had",
        needed and f"estimated at {_gib(needed)} in all",
        left is not None and f"{_gib(left)} can be had now",
    ]
    return f"{'; '.join(part for part in parts if part)}. {_REMEDY}"


def _reclaimable() -> int:
    """Bytes of a container's files in memory, which make room when it is needed."""
    with suppress(OSError, ValueError):
        found = dict(line.split() for line in (_CGROUP / "memory.stat").read_text().splitlines())
        return int(found.get("inactive_file", 0))
    return 0


def _gib(count: int) -> str:
    return f"{count / 2**30:.2g} GiB" if count >= 2**28 else f"{count / 2**20:.3g} MiB"
