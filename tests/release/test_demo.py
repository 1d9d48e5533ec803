"""The README's first command begins on a fresh clone, and goes on where an audit was begun."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The demo's module, which reads no package."""
    spec = importlib.util.spec_from_file_location("demo", ROOT / "examples" / "demo.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "write_reviews", lambda target: None)
    monkeypatch.setattr(module, "package_folder", lambda name: ROOT)
    return module


@pytest.mark.parametrize(("left", "resumed"), [((), False), (("log.txt",), False), (("runs",), True)])
def test_only_an_audit_that_was_begun_is_resumed(
    demo: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: tuple[str, ...], resumed: bool
) -> None:
    for name in left:
        (tmp_path / name).mkdir()
    calls: list[list[str]] = []

    def run(command: list[str], check: bool) -> subprocess.CompletedProcess[bytes]:
        calls.append(command)
        return subprocess.CompletedProcess(command, 1)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(sys, "argv", ["demo.py", str(tmp_path)])
    assert demo.main() == 0
    assert ("--resume" in calls[0]) is resumed


def test_what_torchao_says_reaches_nobody() -> None:
    call = [sys.executable, "-c", "import promptreach.hf, transformers"]
    assert subprocess.run(call, capture_output=True, text=True, check=True).stderr == ""
