"""Runs as curves in TensorBoard or trackio, through those packages' own interface, for those who look there.

A run is sent when it has ended, whoever trained it: its evaluations, and what it scores on the held-out rows.
"""

import math
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from promptreach.errors import Fault, MissingExtraError, install_command
from promptreach.training.arguments import choice_faults
from promptreach.training.engines.executor import Executor
from promptreach.training.runs import Run, RunConfig
from promptreach.training.task.task import Task

PROJECT = "promptreach"
"""The project that runs are sent to, where a tracker has projects."""


class Tracker(ABC):
    """A place that curves are sent to; each run goes there once."""

    def __init__(self) -> None:
        self._sent: set[str] = set()

    def send(self, run: Run) -> None:
        """Send a run's evaluations and its scores on the held-out rows, step by step."""
        name = name_of(run.config)
        if name in self._sent:
            return
        self._sent.add(name)
        looks = [(look.step, _numbers(asdict(look))) for look in run.curve]
        if run.held_out is not None:
            scores = {"held_out_loss": run.held_out.mean_loss, "held_out_accuracy": run.held_out.accuracy}
            looks.append((run.steps, _numbers(scores)))
        self._send(name, run.config.to_record(), looks)

    @abstractmethod
    def _send(self, name: str, config: dict[str, Any], looks: Sequence[tuple[int, dict[str, float]]]) -> None:
        """Send one run: its name, its settings, and numbers by step."""


class TensorBoard(Tracker):
    """Event files that TensorBoard reads, one folder a run."""

    def __init__(self, place: Path) -> None:
        super().__init__()
        self.place = place

    def _send(self, name: str, config: dict[str, Any], looks: Sequence[tuple[int, dict[str, float]]]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        with SummaryWriter(log_dir=str(self.place / name)) as writer:
            for step, numbers in looks:
                for key, value in numbers.items():
                    writer.add_scalar(key, value, step)


class Trackio(Tracker):
    """Runs of a trackio project, which keeps them where its own settings say."""

    def _send(self, name: str, config: dict[str, Any], looks: Sequence[tuple[int, dict[str, float]]]) -> None:
        import trackio

        with redirect_stdout(sys.stderr):  # it greets, and standard output belongs to results
            trackio.init(project=PROJECT, name=name, config=config)
            try:
                for step, numbers in looks:
                    trackio.log(numbers, step=step)
            finally:
                trackio.finish()


TRACKERS: dict[str, Callable[[Path], Tracker]] = {"tensorboard": TensorBoard, "trackio": lambda place: Trackio()}
"""Trackers by the name of their package, and of the extra that brings it."""


@dataclass(frozen=True, eq=False)
class Tracked:
    """An executor whose finished runs are sent to a tracker."""

    inner: Executor
    tracker: Tracker

    @property
    def task(self) -> Task:
        """The task that the runs train on."""
        return self.inner.task

    def run(self, configs: Sequence[RunConfig]) -> list[Run]:
        """The finished run of each of `configs`, in their order, and each sent."""
        found = self.inner.run(configs)
        for run in found:
            self.tracker.send(run)
        return found


def tracker_faults(report_to: str | None) -> list[Fault]:
    """The fault of a tracker's name that is none.

    Raises:
        MissingExtraError: where its package is not installed.
    """
    if report_to is None:
        return []
    faults = choice_faults("report_to", report_to, tuple(TRACKERS))
    if not faults and find_spec(report_to) is None:
        seen = f"{report_to!r}, without the package"
        raise MissingExtraError(Fault("report_to", seen, report_to, install_command(report_to)))
    return faults


@contextmanager
def sending(
    executor_of: Callable[[Task], Executor], report_to: str | None, place: Path
) -> Iterator[Callable[[Task], Executor]]:
    """The same maker of executors, whose runs go to a tracker as well; None sends nothing.

    Args:
        place: the folder for trackers that write files.
    """
    if report_to is None:
        yield executor_of
        return
    tracker = TRACKERS[report_to](place)
    yield lambda task: Tracked(executor_of(task), tracker)


def name_of(config: RunConfig) -> str:
    """The name of a run: its method and size, and what else tells it from its neighbours."""
    parts = [config.label, f"rate {config.learning_rate:.3g}", config.init, f"seed {config.seed}"]
    parts.append(f"first {config.pause} of {config.steps} steps" if config.pause else f"{config.steps} steps")
    return ", ".join(part for part in parts if part).replace("/", "-")


def _numbers(found: dict[str, Any]) -> dict[str, float]:
    """The finite numbers; no tracker draws the others, and the step has its own place."""
    return {key: value for key, value in found.items() if key != "step" and math.isfinite(value)}
