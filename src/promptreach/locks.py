"""One writer a folder: a lock that says who holds it, and that a killed owner leaves behind without holding it.

The system's own lock on the file is what counts; it goes with the process that took it, however that ends. What stands
in the file says who that was. Where a system has no such locks, the owner's process and its start decide.
"""

import errno
import json
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from promptreach.errors import Fault, OutputError
from promptreach.files import as_output_error

LOCK = ".promptreach.lock"
"""The name of the file in a locked folder. It goes when its owner ends, and stays when that was killed."""

_LOOK_SECONDS = 0.25
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS)
_fcntl: Any = import_module("fcntl") if find_spec("fcntl") else None


@dataclass(frozen=True)
class Owner:
    """The holder of a lock.

    Attributes:
        process: its number on its machine.
        began: its start, in the system's own count, which tells two processes of one number apart.
        machine: its network name.
        since: seconds since 1970 when it took the lock.
        work: what it does, as one word or two.
        key: of the call; two owners with one key want the same.
    """

    process: int
    began: str
    machine: str
    since: float
    work: str
    key: str

    def __str__(self) -> str:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since))
        return f"process {self.process} on {self.machine}, since {when}"


@contextmanager
def folder_lock(folder: str | Path, work: str, key: str) -> Iterator[bool]:
    """The only right to write into `folder`, for a `with` block; a second owner of the same key waits for the first.

    Args:
        folder: there already.
        work: what is done, for messages.
        key: says whether two calls are the same.

    Yields:
        Whether another owner had to be waited for: what it finished is there now.

    Raises:
        OutputError: at once, when another call holds it; naming its process. Or when the folder cannot be written.
    """
    path, waited = Path(folder) / LOCK, False
    while True:
        with as_output_error(Path(folder)):
            held = _try_lock(path)
        if held is not None:
            break
        owner = owner_of(folder)
        if owner is not None and owner.key != key:
            expected = "a folder of its own for every call"
            remedy = "Choose another folder, or wait until that process has ended."
            raise OutputError(
                Fault(str(folder), f"{owner.work} of another call is under way ({owner})", expected, remedy)
            )
        waited = True
        time.sleep(_LOOK_SECONDS)
    try:
        owner = Owner(os.getpid(), _start_of(os.getpid()), platform.node(), time.time(), work, key)
        os.ftruncate(held, 0)
        os.pwrite(held, json.dumps(asdict(owner)).encode(), 0)
        yield waited
        path.unlink(missing_ok=True)  # while it is held, so that nobody can have taken it already
    finally:
        os.close(held)


def owner_of(folder: str | Path) -> Owner | None:
    """The owner that the lock in `folder` names, be it gone or not; None where there is none, or none that is whole."""
    with suppress(OSError, ValueError, TypeError, RecursionError):
        return Owner(**json.loads((Path(folder) / LOCK).read_text("utf-8")[:10_000]))
    return None


def is_locked(folder: str | Path) -> bool:
    """Whether a process that lives holds the lock on `folder`; a lock that a killed one left counts as none."""
    path = Path(folder) / LOCK
    if not path.is_file():
        return False
    try:
        descriptor = _try_lock(path, create=False)
    except OSError:
        return False
    if descriptor is None:
        return True
    os.close(descriptor)
    return False


def _try_lock(path: Path, create: bool = True) -> int | None:
    """An open descriptor that holds the lock, or None where another has it."""
    while True:
        descriptor = os.open(path, os.O_RDWR | (os.O_CREAT if create else 0), 0o644)
        try:
            free = _take(descriptor, path)
        except BaseException:
            os.close(descriptor)
            raise
        if not free:
            os.close(descriptor)
            return None
        with suppress(OSError):  # its owner may have ended, and taken the file with it, since it was opened
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        os.close(descriptor)
        if not create:
            raise FileNotFoundError(path)


def _take(descriptor: int, path: Path) -> bool:
    """Whether the lock is this process' now."""
    try:
        if _fcntl is not None:
            _fcntl.flock(descriptor, _fcntl.LOCK_EX | _fcntl.LOCK_NB)
            return True
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    owner = owner_of(path.parent)
    return owner is None or not _lives(owner)


def _lives(owner: Owner) -> bool:
    if owner.machine != platform.node():
        return True  # nobody here can tell
    try:
        os.kill(owner.process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return _start_of(owner.process) == owner.began


def _start_of(process: int) -> str:
    """The start of a process in the system's own count; empty where the system does not tell."""
    with suppress(OSError, IndexError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    return ""
