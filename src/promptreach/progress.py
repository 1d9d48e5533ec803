"""Progress with the time left, on standard error, for people only.

Bars are drawn on a terminal, and in a notebook that has ipywidgets. Nothing is shown when standard error is neither, so
logs and pipes stay clean, and nothing ever goes to standard output, which belongs to results. Whoever wants lines gets
them from the logger ``promptreach`` at the level INFO: one when a task begins, one when it ends.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Protocol, runtime_checkable

from rich.console import Console
from rich.progress import BarColumn, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from promptreach.terminal import one_line

_LOG = logging.getLogger(__name__)
_STDERR = Console(stderr=True)
"""One for all: bars inside bars are stacked only when they are drawn on the same console."""


@runtime_checkable
class Step(Protocol):
    """The call by which a task tells how its work goes on."""

    def __call__(self, advance: int = 1, note: str = "") -> None:
        """`advance` units more are done; `note` stands behind the bar until the next one."""


class Progress:
    """Bars for the tasks under way, and one for the whole plan if there is one.

    Args:
        quiet: True shows nothing.
        console: where to draw; None is standard error.

    Example:
        ```python
        with Progress() as progress:
            progress.plan(2000)
            with progress.task("training a prompt", total=1000) as step:
                step(note="loss 0.61")
        ```
    """

    def __init__(self, quiet: bool = False, console: Console | None = None) -> None:
        console = console or _STDERR
        self.quiet = quiet
        self._bars = Bars(
            TextColumn("{task.description}", markup=False),  # descriptions and notes may hold the user's brackets
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=console,
            transient=True,
            redirect_stdout=False,  # or printed results would land on standard error
            disable=quiet or not _draws(console),
        )
        self._plan: TaskID | None = None

    def __enter__(self) -> "Progress":
        self._bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bars.stop()

    def plan(self, total_units: int) -> None:
        """Show a bar for everything: `total_units`, in the unit of the tasks' steps, of which each step takes its part.

        A second call corrects the total.
        """
        if self._plan is None:
            self._plan = self._bars.add_task("everything", total=total_units, note="")
        else:
            self._bars.update(self._plan, total=total_units)

    @contextmanager
    def task(self, description: str, total: int | None = None) -> Iterator[Step]:
        """A bar while the block runs; `total` None when the amount of work is not known."""
        bar, began = self._bars.add_task(one_line(description), total=total, note=""), time.monotonic()
        _LOG.info("%s begins", one_line(description))

        def step(advance: int = 1, note: str = "") -> None:
            self._bars.update(bar, advance=advance, note=one_line(note))
            if self._plan is not None:
                self._bars.advance(self._plan, advance)

        try:
            yield step
        finally:
            self._bars.remove_task(bar)
            _LOG.info("%s ended after %.1f s", one_line(description), time.monotonic() - began)


def _draws(console: Console) -> bool:
    """Whether bars can be drawn there; in a notebook rich redraws them through ipywidgets, and warns without it."""
    if console.is_jupyter:
        return find_spec("ipywidgets") is not None
    return console.is_terminal and not console.is_dumb_terminal
