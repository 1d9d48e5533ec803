"""The time that is left of work that was estimated before it began; it follows the machine's speed.

The estimate says how long each stage takes, and each training run in the stage that trains. What is left of it is
multiplied by the pace: the seconds that the last minute of training steps took over those they were expected to take. A
machine that turns five times slower is known for it a minute later.

Intervals are taken from the monotonic clock, which nobody sets. Where that clock went on for a minute in which this
process hardly computed, the machine slept, and the time does not count.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

WINDOW = 60.0
"""Seconds of training steps that the pace is taken over; where fewer were seen, the rest counts as expected."""
_ASLEEP = 0.01
"""The share of an interval in which a process computed, below which it slept through it."""
_NOT_TAKEN = 20.0
"""Steps that come so many times faster than expected were not taken now: an earlier call took them, or none will."""


@dataclass(frozen=True)
class ExpectedRun:
    """One training run as a plan expects it, with the search for its rate.

    Attributes:
        announced: the steps that progress will be told of.
        taken: the optimiser steps among them, which are fewer: a survivor's are announced at every rung.
        seconds: for all of it, scores included.
    """

    announced: int
    taken: int
    seconds: float


class TimeLeft:
    """The seconds that are left, asked at any time from any thread.

    Args:
        stages: the expected seconds of every stage, in their order.
        runs: by its label, each run of the stage that trains.
        training: the name of that stage; its own seconds are those of the runs.
        clock, processor: the monotonic clock, and the processor seconds of this process.
    """

    def __init__(
        self,
        stages: Mapping[str, float],
        runs: Mapping[str, ExpectedRun],
        training: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        processor: Callable[[], float] = time.process_time,
    ) -> None:
        self._stages = dict(stages)
        self._runs = dict(runs)
        self._training = training
        self._clock, self._processor = clock, processor
        self._last = clock(), processor()
        self._worked = 0.0
        self._entered: tuple[str, float] = ("", 0.0)
        self._over: set[str] = set()
        self._announced = dict.fromkeys(runs, 0)
        self._seen: deque[tuple[float, float]] = deque()
        self._sums = [0.0, 0.0]
        self._before: dict[str, float] = {}
        self._lock = threading.RLock()

    def enter(self, stage: str) -> None:
        """A stage begins; those before it are over."""
        with self._lock:
            names = list(self._stages)
            if stage in names:
                self._over |= set(names[: names.index(stage)])
            self._entered = stage, self._now()

    def begin(self, task: str) -> None:
        """The work on a task begins; what it cost to get here is not a step's.

        A task is a run of the plan where its name is the run's, or begins with it and a comma: its rate may follow.
        """
        with self._lock:
            self._before[self._run_of(task)] = self._now()

    def step(self, task: str, advance: int) -> None:
        """So many steps more of a task are done."""
        with self._lock:
            run, now = self._run_of(task), self._now()
            passed, self._before[run] = now - self._before.get(run, now), now
            expected = self._runs.get(run)
            if expected is None or advance < 1:
                return
            self._announced[run] += advance
            usual = advance * expected.seconds / max(1, expected.taken)
            if passed * _NOT_TAKEN > usual:
                self._observe(passed, usual)

    @property
    def pace(self) -> float:
        """The seconds that a second of the estimate takes by now; 1 before anything was seen."""
        unseen = max(0.0, WINDOW - self._sums[0])
        return (unseen + self._sums[0]) / (unseen + self._sums[1])

    @property
    def worked(self) -> float:
        """The seconds since the beginning, those left out that the machine slept through."""
        with self._lock:
            return self._now()

    def seconds(self) -> float:
        """The wall seconds that are left, if the machine goes on as it did in the last minute."""
        with self._lock:
            now, (stage, since) = self._now(), self._entered
            left = 0.0
            for name, expected in self._stages.items():
                if name == self._training and name not in self._over:
                    left += sum(map(self._left_of, self._runs.values(), self._announced.values()))
                elif name == stage:
                    left += max(0.0, expected - (now - since) / self.pace)
                elif name not in self._over:
                    left += expected
            return left * self.pace

    def _run_of(self, task: str) -> str:
        """The run that a task belongs to; the task itself where it is none of the plan's."""
        found = [run for run in self._runs if task == run or task.startswith(f"{run}, ")]
        return max(found, key=len, default=task)

    @staticmethod
    def _left_of(run: ExpectedRun, announced: int) -> float:
        return run.seconds * max(0.0, 1.0 - announced / max(1, run.announced))

    def _observe(self, seconds: float, expected: float) -> None:
        self._seen.append((seconds, expected))
        self._sums = [self._sums[0] + seconds, self._sums[1] + expected]
        while self._sums[0] - self._seen[0][0] >= WINDOW:
            old = self._seen.popleft()
            self._sums = [self._sums[0] - old[0], self._sums[1] - old[1]]

    def _now(self) -> float:
        """The seconds since the beginning that this process was awake for."""
        clock, processor = self._clock(), self._processor()
        passed, computed = clock - self._last[0], processor - self._last[1]
        self._last = clock, processor
        asleep = passed > WINDOW and computed < _ASLEEP * passed
        self._worked += 0.0 if asleep else max(0.0, passed)
        return self._worked
