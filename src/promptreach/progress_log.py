"""Progress where nobody looks at a terminal: a line of the log every 30 seconds, and a file for other programs.

A thread of its own tells both, so that a step that takes ten minutes is no silence. The file is a courtesy: when it
cannot be written any more, the log says so once and the work goes on.
"""

import json
import logging
import re
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from promptreach.terminal import one_line, printable_json

LINE_SECONDS = 30.0
"""Seconds between two lines of the log."""
FILE_SECONDS = 5.0
"""Seconds between two lines of the file, where nothing new begins in between."""
PROGRESS_FILE = "progress.jsonl"
"""The file's name, beside the report."""
_LOSS = re.compile(r"\bloss (-?\d[\d.]*(?:e[-+]?\d+)?)")
_LOG = logging.getLogger("promptreach")


@dataclass(frozen=True)
class Standing:
    """How far the work is.

    Attributes:
        stage: its name; empty where the work has no stages.
        stage_number, stages: its place among them, from 1; 0 of 0 without stages.
        task: what is being done; empty between two tasks.
        step, total: of the task; the total is None where it is not known.
        note: the last word on it.
        elapsed: seconds since the beginning.
        seconds_left: of everything; None where nothing was estimated.
    """

    stage: str
    stage_number: int
    stages: int
    task: str
    step: int
    total: int | None
    note: str
    elapsed: float
    seconds_left: float | None

    @property
    def loss(self) -> float | None:
        """The training loss in the note, where there is one."""
        found = _LOSS.search(self.note)
        return float(found[1]) if found else None

    def __str__(self) -> str:
        """The same as one line for people."""
        stage = f"{self.stage_number} of {self.stages}, {self.stage}" if self.stages else self.stage
        steps = f"{self.step:,}" + (f" of {self.total:,} steps" if self.total is not None else " steps")
        task = ", ".join(part for part in (self.task, steps if self.step or self.total else "", self.note) if part)
        left = "" if self.seconds_left is None else f"about {duration(self.seconds_left)} left"
        doing = ": ".join(part for part in (stage, task) if part) or "at work"
        return one_line(f"{duration(self.elapsed)}: {'; '.join(part for part in (doing, left) if part)}")


class ProgressLog:
    """Tells how far the work is, from `start` to `stop`.

    Args:
        standing: says how far it is.
        lines: whether the log gets lines.
        file: the JSON-lines file, begun afresh; None writes none.
    """

    def __init__(self, standing: Callable[[], Standing], *, lines: bool, file: Path | None) -> None:
        self._standing = standing
        self._lines = lines
        self._file = file
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin the file, and tell from now on."""
        if self._file is not None:
            self._write("", "w")
        if self._lines or self._file is not None:
            self._thread = threading.Thread(target=self._tell, name="promptreach progress", daemon=True)
            self._thread.start()

    def stop(self, state: str) -> None:
        """End; the last line of the file says how: ``finished``, ``stopped`` or ``failed``."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.record(state)

    def record(self, state: str = "running") -> None:
        """Add a line to the file: where the work stands at this moment."""
        if self._file is None:
            return
        standing = self._standing()
        found = asdict(standing) | {"loss": standing.loss, "state": state}
        found |= {"monotonic": time.monotonic(), "wall": time.time()}
        self._write(printable_json(json.dumps(found)) + "\n", "a")

    def _tell(self) -> None:
        began, told = time.monotonic(), 0
        while not self._over.wait(min(FILE_SECONDS, LINE_SECONDS)):
            self.record()
            due = int((time.monotonic() - began) / LINE_SECONDS)
            if self._lines and due > told:
                told = due
                _LOG.info("%s", self._standing())

    def _write(self, text: str, mode: str) -> None:
        with self._lock:
            try:
                if self._file is not None:
                    with self._file.open(mode, encoding="utf-8") as stream:
                        stream.write(text)
            except OSError as error:
                _LOG.warning("%s is not written any further: %s", PROGRESS_FILE, one_line(str(error.strerror or error)))
                self._file = None


def duration(seconds: float) -> str:
    """A duration as a person says it, to two parts: ``"40 s"``, ``"5 min 10 s"``, ``"2 h 5 min"``."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
