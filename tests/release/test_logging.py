"""One logger: whatever this library has to say while it runs goes through ``promptreach`` and what lies below it."""

import ast
import subprocess
import sys
from pathlib import Path

import promptreach

PACKAGE = Path(promptreach.__file__).parent
HUSHED = ("hf/__init__.py", "stored.py")
"""The files that hush the loggers of others, which they name."""


def loggers_of(source: str) -> list[str]:
    """The arguments of every call of getLogger, as source."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return [ast.unparse(call.args[0]) for call in calls if ast.unparse(call.func).endswith("getLogger")]


def test_every_logger_is_ours() -> None:
    found = {
        path.relative_to(PACKAGE).as_posix(): wrong
        for path in PACKAGE.rglob("*.py")
        if (wrong := set(loggers_of(path.read_text("utf-8"))) - {"__name__", "'promptreach'"})
    }
    assert sorted(found) == sorted(HUSHED)
    assert loggers_of("import logging\nlogging.getLogger('root')") == ["'root'"]


def test_nothing_is_said_unasked() -> None:
    code = "from promptreach.progress import Progress\nwith Progress() as p, p.task('x'): pass"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"", b"")
