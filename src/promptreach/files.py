"""Writing without half results: a file or a folder appears whole under its name, or not at all.

Everything is written under a temporary name beside its target and renamed at the end, so a full disk, Ctrl-C or a
killed process leaves the old content as it was. (A process killed outright may leave the temporary name behind: it
starts with a dot and ends in ``.partial``, nothing reads it, and `remove_partials` clears it away.)
"""

import errno
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from promptreach.errors import Fault, OutputError, raise_if_any

SPACE_NEEDED = 50 * 2**20
"""Free bytes that `check_output` asks for: a report with its adapters takes less."""

STARTED = time.time()
"""The start of this process: temporary files that are older were left by one that was killed."""

_PARTIAL = re.compile(r"\..+\.[0-9a-f]{12}\.partial")

_MEANINGS = {
    errno.ENOSPC: ("the disk is full", "Free some space or choose another place."),
    errno.EDQUOT: ("the disk quota is used up", "Free some space or choose another place."),
    errno.EFBIG: ("the file is larger than this system allows", "Choose another place."),
    errno.EROFS: ("the file system is read-only", "Choose another place."),
    errno.EACCES: ("no permission to write here", "Change the permissions or choose another place."),
    errno.EPERM: ("no permission to write here", "Change the permissions or choose another place."),
    errno.EISDIR: ("a folder stands in the way", "Remove it or choose another name."),
    errno.ENOTDIR: ("a file stands where a folder is needed", "Remove it or choose another name."),
    errno.EEXIST: ("a file stands where a folder is needed", "Remove it or choose another name."),
    errno.ENOENT: ("the folder does not exist", "Create it or choose another place."),
}


def write_atomically(path: str | Path, data: str | bytes) -> None:
    """Write `data` to `path`, which then holds all of it or, after any failure, what it held before.

    Text is written as UTF-8, with escapes for halves of surrogate pairs: they stand for the odd bytes of a path.
    A symbolic link is followed: the file it points to is replaced, the link stays.

    Raises:
        OutputError: when the file cannot be written; says why and what to do.
    """
    target = Path(path).resolve()
    partial = _partial_beside(target)
    with as_output_error(target):
        try:
            with partial.open("xb") as stream:
                stream.write(data.encode(errors="backslashreplace") if isinstance(data, str) else data)
                stream.flush()
                os.fsync(stream.fileno())
            partial.replace(target)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


@contextmanager
def atomic_folder(path: str | Path, *, replace: bool = False) -> Iterator[Path]:
    """A temporary folder to fill, which becomes `path` when the block ends, or vanishes when it raises.

    A symbolic link is followed. With `replace`, an existing folder stays as it is until the new one is complete.

    Raises:
        OutputError: when `path` is a file, a folder that is not empty while `replace` is False, or the working
            directory or one above it; and for any OSError in the block or in moving the folder into place.
    """
    target = Path(path).resolve()
    with as_output_error(target):
        if target.exists() and any(target.iterdir()) and not replace:
            remedy = "Choose another folder or allow this one to be replaced."
            raise OutputError(Fault(str(target), "a folder with something in it", "an empty or new folder", remedy))
        if Path.cwd().is_relative_to(target):  # it would be swapped away from under the shell that waits there
            remedy = "Name a new folder inside it."
            raise OutputError(Fault(str(target), "the folder that this program runs in", "another folder", remedy))
        partial = _partial_beside(target)
        try:
            partial.mkdir(parents=True)
            yield partial
            _swap_in(partial, target)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise


def check_output(folder: str | Path, *, finished_marker: str = "report.json", resume: bool = False) -> Path:
    """`folder`, created where needed and shown to be writable with `SPACE_NEEDED` bytes free, before work starts.

    Args:
        folder: where the results will go.
        finished_marker: the file that a finished run leaves there.
        resume: True accepts a folder that holds it.

    Raises:
        OutputError: when results could not be written there, or would overwrite those of a finished run.
    """
    folder = Path(folder)
    with as_output_error(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"promptreach")
        free = shutil.disk_usage(folder).free
    faults = []
    if free < SPACE_NEEDED:
        seen, expected = f"{free / 2**20:.1f} MiB free", f"at least {SPACE_NEEDED // 2**20} MiB"
        faults.append(Fault(str(folder), seen, expected, "Free some space or choose another folder."))
    if not resume and (folder / finished_marker).exists():
        remedy = "Choose another folder, or resume this run (--resume)."
        faults.append(Fault(str(folder), f"{finished_marker} of a finished run", "a folder without one", remedy))
    raise_if_any(faults, OutputError)
    return folder


def remove_partials(folder: str | Path) -> None:
    """Remove what killed writers left half done in `folder` and in the folders right below it.

    Only what bears a temporary name of this module and is older than this process; what cannot be removed stays.
    """
    for path in [*Path(folder).glob(".*.partial"), *Path(folder).glob("*/.*.partial")]:
        with suppress(OSError):
            if _PARTIAL.fullmatch(path.name) and path.lstat().st_mtime < STARTED:
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _partial_beside(target: Path) -> Path:
    """A new name in the same folder, since only within one file system a rename is atomic."""
    return target.with_name(f".{target.name[:100]}.{secrets.token_hex(6)}.partial")


def _swap_in(partial: Path, target: Path) -> None:
    """Rename `partial` to `target`; what stood there is first moved aside and moved back if that fails."""
    aside = _partial_beside(target)
    try:
        if target.exists():
            target.rename(aside)
        partial.rename(target)
    except BaseException:
        if aside.exists() and not target.exists():
            aside.rename(target)
        raise
    shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def as_output_error(path: Path) -> Iterator[None]:
    """Turn an OSError into an OutputError about `path` that says what it means and what to do."""
    try:
        yield
    except OSError as error:
        seen, remedy = _MEANINGS.get(error.errno or 0, (f"it cannot be written: {error}", "Choose another place."))
        raise OutputError(Fault(str(path), seen, "a place that can be written", remedy)) from error
