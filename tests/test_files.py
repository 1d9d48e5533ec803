"""Files and folders appear whole or not at all, and a failure says what it means."""

import errno
import os
import resource
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from promptreach import files
from promptreach.errors import OutputError
from promptreach.files import atomic_folder, check_output, write_atomically


def listing(folder: Path) -> dict[str, bytes]:
    """Everything below `folder`, files with their content."""
    return {str(p.relative_to(folder)): b"" if p.is_dir() else p.read_bytes() for p in sorted(folder.rglob("*"))}


def fail_with(code: int) -> Callable[..., None]:
    def fail(*args: object, **kwargs: object) -> None:
        raise OSError(code, os.strerror(code))

    return fail


def fill(target: Path, contents: dict[str, bytes], failure: BaseException | None = None) -> None:
    with atomic_folder(target, replace=True) as folder:
        for name, content in contents.items():
            (folder / name).mkdir()
            (folder / name / "a").write_bytes(content)
        if failure:
            raise failure


def interrupt(*args: object, **kwargs: object) -> None:
    raise KeyboardInterrupt


def told(error: pytest.ExceptionInfo[OutputError]) -> str:
    fault = error.value.faults[0]
    assert fault.where
    assert fault.expected
    assert fault.remedy
    return str(fault)


# One file -----------------------------------------------------------------------------------------------------------


def test_text_and_bytes_replace_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    write_atomically(path, "zażółć\n")
    assert path.read_bytes() == "zażółć\n".encode()
    write_atomically(str(path), b"\x00\xff")
    assert listing(tmp_path) == {"report.json": b"\x00\xff"}


def test_a_new_file_has_the_mode_that_the_user_asks_for(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "a", "")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def test_a_link_stays_and_its_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    write_atomically(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"


def test_a_long_name_still_has_a_temporary_one(tmp_path: Path) -> None:
    write_atomically(tmp_path / ("x" * 255), "a")
    assert (tmp_path / ("x" * 255)).read_text() == "a"


@pytest.mark.parametrize(
    ("code", "meaning"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "quota"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "no permission"),
        (errno.EPERM, "no permission"),
        (errno.EIO, "Input/output error"),
    ],
)
@pytest.mark.parametrize("call", ["os.fsync", "pathlib.Path.replace"])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, meaning: str, call: str
) -> None:
    path = tmp_path / "report.json"
    path.write_text("old")
    monkeypatch.setattr(call, fail_with(code))
    with pytest.raises(OutputError) as error:
        write_atomically(path, "new")
    assert meaning in told(error)
    assert str(path) in told(error)
    assert listing(tmp_path) == {"report.json": b"old"}


@pytest.mark.parametrize("call", ["os.fsync", "pathlib.Path.replace"])
def test_an_interrupt_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "report.json"
    path.write_text("old")
    monkeypatch.setattr(call, interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, "new")
    assert listing(tmp_path) == {"report.json": b"old"}


def test_a_write_that_the_system_cuts_off_midway(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))  # the kernel refuses everything beyond
    try:
        with pytest.raises(OutputError) as error:
            write_atomically(tmp_path / "a", b"x" * 1_000_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "larger than this system allows" in told(error)
    assert listing(tmp_path) == {"a": b"old"}


def test_places_that_cannot_hold_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    cases = {
        "none/a": "does not exist",
        "file/a": "a file stands where a folder is needed",
        "folder": "a folder stands",
    }
    for name, meaning in cases.items():
        with pytest.raises(OutputError) as error:
            write_atomically(tmp_path / name, "a")
        assert meaning in told(error)
    assert listing(tmp_path) == {"file": b"", "folder": b""}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 128 KiB."""
    mount, umount = shutil.which("mount"), shutil.which("umount")
    folder = tmp_path / "disk"
    folder.mkdir()
    made = mount and umount and subprocess.run([mount, "-t", "tmpfs", "-o", "size=128k", "tmpfs", folder]).returncode
    if made != 0:
        pytest.skip("mounting a file system takes rights that this account does not have")
    yield folder
    subprocess.run([str(umount), folder], check=True)


def test_a_disk_that_is_really_full(small_disk: Path) -> None:
    write_atomically(small_disk / "a", b"old")
    with pytest.raises(OutputError) as error:
        write_atomically(small_disk / "a", b"x" * 200_000)
    assert "the disk is full" in told(error)
    with pytest.raises(OutputError) as error:
        fill(small_disk / "b", {"c": b"x" * 60_000, "d": b"x" * 80_000})
    assert "the disk is full" in told(error)
    assert listing(small_disk) == {"a": b"old"}
    with pytest.raises(OutputError) as error:
        check_output(small_disk)
    assert "0.1 MiB free" in told(error)


# A folder -----------------------------------------------------------------------------------------------------------


def test_a_folder_appears_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "out"
    with atomic_folder(target) as folder:
        assert folder.parent == target.parent
        (folder / "a").write_text("1")
        assert not target.exists()
    assert listing(target.parent) == {"out": b"", "out/a": b"1"}


def test_an_empty_folder_is_filled_and_a_full_one_kept(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir()
    with atomic_folder(target) as folder:
        (folder / "a").write_text("1")
    with pytest.raises(OutputError) as error, atomic_folder(target):
        raise AssertionError("the block must not run")
    assert "something in it" in told(error)
    assert listing(tmp_path) == {"out": b"", "out/a": b"1"}


def test_replace_swaps_the_whole_folder(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir()
    (target / "old").write_text("1")
    with atomic_folder(target, replace=True) as folder:
        (folder / "new").write_text("2")
        assert (target / "old").exists()
    assert listing(tmp_path) == {"out": b"", "out/new": b"2"}


def test_a_linked_folder_is_filled_where_it_points(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with atomic_folder(tmp_path / "link") as folder:
        (folder / "a").write_text("1")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "a").read_text() == "1"


@pytest.mark.parametrize("replace", [False, True])
def test_a_file_in_the_way_is_never_replaced_by_a_folder(tmp_path: Path, replace: bool) -> None:
    (tmp_path / "out").write_text("mine")
    for name in ("out", "out/below"):
        with pytest.raises(OutputError) as error, atomic_folder(tmp_path / name, replace=replace):
            raise AssertionError("the block must not run")
        assert "a file stands where a folder is needed" in told(error)
    assert listing(tmp_path) == {"out": b"mine"}


@pytest.mark.parametrize("below", ["", "deeper"])
def test_the_folder_that_the_program_runs_in_is_not_swapped_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, below: str
) -> None:
    here = tmp_path / "here"
    (here / below).mkdir(parents=True)
    monkeypatch.chdir(here / below)
    with pytest.raises(OutputError) as error, atomic_folder(here, replace=True):
        raise AssertionError("the block must not run")
    assert "Name a new folder inside it." in told(error)
    with atomic_folder("new") as folder:
        (folder / "a").write_text("1")
    assert (here / below / "new" / "a").read_text() == "1"


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), ValueError("no"), SystemExit(1)])
def test_a_failure_inside_leaves_things_as_they_were(tmp_path: Path, failure: BaseException) -> None:
    target = tmp_path / "out"
    target.mkdir()
    (target / "old").write_text("1")
    before = listing(tmp_path)
    with pytest.raises(type(failure)):
        fill(target, {"deep": b"half"}, failure)
    assert listing(tmp_path) == before


def test_an_os_error_inside_is_told_as_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError) as error, atomic_folder(tmp_path / "out"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert "the disk is full" in told(error)
    assert listing(tmp_path) == {}


@pytest.mark.parametrize("failing", [1, 2])
def test_a_swap_that_fails_puts_the_old_folder_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    target = tmp_path / "out"
    target.mkdir()
    (target / "old").write_text("1")
    rename, calls = Path.rename, []

    def sometimes(self: Path, other: Path) -> Path:
        calls.append(other)
        if len(calls) == failing:
            raise OSError(errno.EIO, "Input/output error")
        return rename(self, other)

    monkeypatch.setattr(Path, "rename", sometimes)
    with pytest.raises(OutputError, match="Input/output error"), atomic_folder(target, replace=True) as folder:
        (folder / "new").write_text("2")
    assert listing(tmp_path) == {"out": b"", "out/old": b"1"}


# Before work starts -------------------------------------------------------------------------------------------------


def test_a_good_place_is_created_and_left_empty(tmp_path: Path) -> None:
    assert check_output(tmp_path / "deep" / "out") == tmp_path / "deep" / "out"
    assert listing(tmp_path) == {"deep": b"", "deep/out": b""}
    assert check_output(str(tmp_path / "deep" / "out")).is_dir()


def test_a_finished_run_is_kept_unless_resumed(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text("{}")
    with pytest.raises(OutputError) as error:
        check_output(tmp_path)
    assert "report.json of a finished run" in told(error)
    assert "--resume" in told(error)
    assert check_output(tmp_path, resume=True) == tmp_path
    assert check_output(tmp_path, finished_marker="other.json") == tmp_path


def test_a_file_in_the_way_of_the_results(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for name in ("file", "file/out"):
        with pytest.raises(OutputError) as error:
            check_output(tmp_path / name)
        assert "a file stands where a folder is needed" in told(error)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_a_file_system_that_takes_no_files() -> None:
    with pytest.raises(OutputError) as error:
        check_output("/proc/promptreach")
    assert "/proc/promptreach" in told(error)


def test_a_folder_that_belongs_to_somebody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.TemporaryFile", fail_with(errno.EACCES))
    with pytest.raises(OutputError) as error:
        check_output(tmp_path)
    assert "no permission" in told(error)


def test_little_space_and_a_finished_run_are_told_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "report.json").write_text("{}")
    usage = shutil.disk_usage(tmp_path)._replace(free=files.SPACE_NEEDED - 1)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    with pytest.raises(OutputError) as error:
        check_output(tmp_path)
    assert "at least 50 MiB" in told(error)
    assert len(error.value.faults) == 2
