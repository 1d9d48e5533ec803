"""Folders of another user, caches that nobody may write, and Ctrl-C before anything has begun."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import promptreach
from helpers.audit_cases import rows, save_model
from promptreach.audit import run as run_module
from promptreach.audit.checks import CHECKS
from promptreach.audit.settings import BUDGETS
from promptreach.errors import InputError
from promptreach.tuning import Limits

NOBODY = 65534


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = Limits(48, 24, 24, 16)
    monkeypatch.setattr(run_module, "CHECKS", [check for check in CHECKS if check.name in run_module.NEEDED])
    monkeypatch.setitem(BUDGETS, "quick", BUDGETS["quick"].__class__("quick", 0, limits, (2, 4), 2, 4, 8, 4))


@contextmanager
def another_user(own: Path, *others: Path) -> Iterator[None]:
    """Be a user to whom `own` belongs, and who may read `others` and not write there; root becomes nobody for that."""
    own.mkdir()
    if os.geteuid():  # no other user to be had: the same rights
        modes = {path: path.stat().st_mode for folder in others for path in (folder, *folder.rglob("*"))}
        for path in modes:
            path.chmod(0o555 if path.is_dir() else 0o444)
        try:
            yield
        finally:
            for path, mode in modes.items():
                path.chmod(mode)
        return
    os.chown(own, NOBODY, NOBODY)
    for folder in (own, *others):
        for path in (*folder.parents[:3], *folder.rglob("*"), folder):
            path.chmod(path.stat().st_mode | (0o055 if path.is_dir() else 0o044))
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def content(folder: Path) -> dict[str, str]:
    """A digest of every file."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def audit(model: Path, out: Path, **options: Any) -> Any:
    return promptreach.audit(model, rows(80), budget="quick", num_layers=1, out=out, **options)


def test_an_audit_into_another_users_folder_is_refused_and_leaves_it_as_it_was(tmp_path: Path) -> None:
    model, theirs = tmp_path / "model", tmp_path / "theirs"
    save_model(model, "bert")
    audit(model, theirs)
    before = content(theirs)
    with another_user(tmp_path / "own", model, theirs):
        for options in ({}, {"resume": True}):
            with pytest.raises(InputError) as caught:
                audit(model, theirs, **options)
            assert str(theirs) in str(caught.value)
    assert content(theirs) == before


def test_another_users_model_and_caches_that_cannot_be_written_are_no_hindrance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, cache = tmp_path / "model", tmp_path / "cache"
    save_model(model, "bert")
    cache.mkdir()
    (cache / "hub").mkdir()
    for name in ("HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME", "TORCH_HOME", "HOME"):
        monkeypatch.setenv(name, str(cache))
    mine = audit(model, tmp_path / "mine")
    with another_user(tmp_path / "own", model, cache):
        found = audit(model, tmp_path / "own" / "report")
    assert (found.verdict, found.headline) == (mine.verdict, mine.headline)
    assert (tmp_path / "own" / "report" / "report.json").is_file()
    assert list(cache.rglob("*")) == [cache / "hub"]


@pytest.mark.parametrize("seconds", [0.05, 0.15, 0.4])
def test_ctrl_c_while_it_is_imported_ends_as_everywhere(seconds: float, tmp_path: Path) -> None:
    save_model(tmp_path / "model", "bert")
    (tmp_path / "rows.csv").write_text("text,label\n" + "".join(f"a{i},{'xy'[i % 2]}\n" for i in range(60)))
    call = [sys.executable, "-c", "from promptreach.__main__ import main\nprint(flush=True)\nmain()"]
    process = subprocess.Popen(
        [*call, "audit", tmp_path / "model", tmp_path / "rows.csv", "--out", tmp_path / "out"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that works in the background hands on that Ctrl-C is not listened to.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout is not None
    process.stdout.readline()  # the interpreter has started, and what it runs is at hand
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=120)
    # A fast machine may have begun by then, and says that what is finished is kept.
    assert process.returncode == 130
    assert told.startswith("\nStopped.")
    assert told.count("\n") == 2
    assert not (tmp_path / "out" / "report.json").exists()
