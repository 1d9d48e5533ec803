"""An executor that counts processor seconds, so that a busy machine does not blur what two sides cost.

With one thread (OMP_NUM_THREADS=1) they are the wall seconds of a quiet machine.
"""

import json
import time
from collections.abc import Sequence
from pathlib import Path

from promptreach.files import write_atomically
from promptreach.training.engines.executor import Executor
from promptreach.training.task.task import Task
from promptreach.tuning import Run, RunConfig


class Timed:
    """Runs on `inner`, one after another; what a run cost is kept in a file, for calls that find it finished."""

    def __init__(self, inner: Executor, file: Path) -> None:
        self.inner = inner
        self.file = file
        self.task: Task = inner.task
        self._asked: set[str] = set()
        self._known: dict[str, float] = json.loads(file.read_text()) if file.exists() else {}

    @property
    def seconds(self) -> float:
        """What all runs that were asked for cost, each counted once."""
        return sum(self._known[name] for name in self._asked)

    def run(self, configs: Sequence[RunConfig]) -> list[Run]:
        return [self._one(config) for config in configs]

    def _one(self, config: RunConfig) -> Run:
        name = json.dumps([self.task.digest, config.to_record()], sort_keys=True)
        began = time.process_time()
        run = self.inner.run([config])[0]
        if name not in self._known:
            self._known[name] = time.process_time() - began
            self.file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self.file, json.dumps(self._known, indent=1) + "\n")
        self._asked.add(name)
        return run
