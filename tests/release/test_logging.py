"""One logger: whatever this library has to say while it runs goes through ``promptreach`` and what lies below it."""

import ast
import logging
import subprocess
import sys
from pathlib import Path

import promptreach
from promptreach.progress import Progress

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


def test_tasks_are_told_to_those_who_ask_for_lines() -> None:
    lines: list[str] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    logger, handler = logging.getLogger("promptreach"), Kept()
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        with Progress(quiet=True) as progress, progress.task("training a prompt", total=1) as step:
            step()
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
    assert lines[0] == "training a prompt begins"
    assert lines[1].startswith("training a prompt ended after ")


def test_nothing_is_said_unasked() -> None:
    code = "from promptreach.progress import Progress\nwith Progress() as p, p.task('x'): pass"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"", b"")
