"""Progress with the time left: bars where a person looks on, lines of the log where nobody does, a file for programs.

Bars are drawn in terminals and notebooks. Elsewhere the library's logger gets a line every 30 seconds (level INFO; the
command line shows them on standard error). Nothing ever goes to standard output, which belongs to results.
"""

import importlib.util
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, runtime_checkable

from rich.console import Console
from rich.progress import BarColumn, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.text import Text

from promptreach.progress_log import PROGRESS_FILE, ProgressLog, Standing
from promptreach.terminal import one_line, printable
from promptreach.time_left import TimeLeft

_STDERR = Console(stderr=True)
"""One for all: bars inside bars are stacked only when they are drawn on the same console."""
_LOG = logging.getLogger("promptreach")


@runtime_checkable
class Step(Protocol):
    """The call by which a task tells how its work goes on."""

    def __call__(self, advance: int = 1, note: str = "") -> None:
        """`advance` units more are done; `note` stands behind the bar until the next one."""


class Progress:
    """Bars or lines for the tasks under way, and for the whole plan if there is one.

    Args:
        quiet: True shows nothing and logs nothing; the file is written all the same.
        console: where to draw; None is standard error.
        folder: where `PROGRESS_FILE` goes; None writes none.

    Example:
        ```python
        with Progress() as progress:
            progress.plan(2000)
            with progress.task("training a prompt", total=1000) as step:
                step(note="loss 0.61")
        ```
    """

    def __init__(self, quiet: bool = False, console: Console | None = None, folder: Path | None = None) -> None:
        self._console = console or _STDERR
        self.quiet = quiet
        self._drawn = not quiet and _is_looked_at(self._console)
        self._bars = Bars(
            TextColumn("{task.description}", markup=False),  # descriptions and notes may hold the user's brackets
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=self._console,
            transient=True,
            redirect_stdout=False,  # or printed results would land on standard error
            disable=not self._drawn,
        )
        self._plan: TaskID | None = None
        self._total = self._done = 0
        self._stage: tuple[str, int, int] = ("", 0, 0)
        self._tasks: list[_Task] = []
        self._left = TimeLeft({}, {}, "")
        self._expected = False
        self._log = ProgressLog(
            self.standing,
            lines=not quiet and not self._drawn,
            file=None if folder is None else Path(folder) / PROGRESS_FILE,
        )

    def __enter__(self) -> "Progress":
        self._bars.start()
        self._log.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        stopped = kind is not None and issubclass(kind, KeyboardInterrupt)
        self._log.stop("finished" if kind is None else "stopped" if stopped else "failed")
        self._bars.stop()

    def plan(self, total_units: int) -> None:
        """Show a bar for everything: `total_units`, in the unit of the tasks' steps, of which each step takes its part.

        A second call corrects the total.
        """
        self._total = total_units
        if self._plan is None:
            self._plan = self._bars.add_task("everything", total=total_units, note="")
        else:
            self._bars.update(self._plan, total=total_units)

    def expect(self, left: TimeLeft) -> None:
        """What is expected of the work's stages and runs: from now on the time left is told."""
        left.enter(self._stage[0])
        self._left, self._expected = left, True

    def enter(self, stage: str, number: int, stages: int) -> None:
        """A stage of the work begins, the `number`-th of so many."""
        self._stage = stage, number, stages
        self._left.enter(stage)
        self._log.record()

    def tell(self, text: str) -> None:
        """Say something at once: above the bars, or in the log."""
        if self._drawn:
            self._console.print(Text(printable(text, self._console.encoding)))
        elif not self.quiet:
            _LOG.info("%s", printable(text))

    def standing(self) -> Standing:
        """How far the work is at this moment."""
        task = self._tasks[-1:]
        left: float | None = None
        if self._expected:
            left = self._left.seconds()
        elif 0 < self._done < self._total:
            left = self._left.worked * (self._total - self._done) / self._done
        name, step, total, note = (
            (task[0].name, task[0].done, task[0].total, task[0].note) if task else ("", 0, None, "")
        )
        return Standing(*self._stage, name, step, total, note, self._left.worked, left)

    @contextmanager
    def task(self, description: str, total: int | None = None) -> Iterator[Step]:
        """A bar while the block runs; `total` None when the amount of work is not known."""
        bar = self._bars.add_task(one_line(description), total=total, note="")
        task = _Task(description, total)
        self._tasks.append(task)
        self._left.begin(description)
        self._log.record()

        def step(advance: int = 1, note: str = "") -> None:
            self._bars.update(bar, advance=advance, note=one_line(note))
            task.done, task.note = task.done + advance, note
            self._left.step(description, advance)
            if self._plan is not None:
                self._done += advance
                self._bars.advance(self._plan, advance)

        try:
            yield step
        finally:
            self._tasks.remove(task)
            self._bars.remove_task(bar)


class _Task:
    """A task under way."""

    def __init__(self, name: str, total: int | None) -> None:
        self.name, self.total = name, total
        self.done, self.note = 0, ""


def _is_looked_at(console: Console) -> bool:
    """Whether bars can be drawn there: a terminal that moves its cursor, or a notebook with the widgets for it."""
    if console.is_jupyter:
        return importlib.util.find_spec("ipywidgets") is not None
    return console.is_terminal and not console.is_dumb_terminal
