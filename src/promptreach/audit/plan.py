"""The plan of an audit: what it would train, on which rows, how long on this machine, and in how much memory."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from promptreach.time_left import ExpectedRun, TimeLeft

READING = "reading"
"""The name of what comes before all checks: the frozen model reads the rows, and heads are fitted to its states."""
PLANTED_PROMPT = "a planted prompt"
"""The name of the run that asks whether training finds a prompt that is known to exist."""


def over(steps: int) -> str:
    """The name of training everything once more, over so many steps."""
    return f"all over {steps:,} steps"


@dataclass(frozen=True)
class PlannedRun:
    """One run of the plan, its search for a rate included.

    Attributes:
        name: the method and its size.
        steps: optimiser steps, those of candidates that are dropped included.
        seconds: of work for them, with the scores in between.
        announced: the steps that progress is told of.
        comes_first: whether it is trained in any case; the others are left out where these settle the verdict.
    """

    name: str
    steps: int
    seconds: float
    announced: int
    comes_first: bool = True


@dataclass(frozen=True)
class AuditPlan:
    """What an audit would do; nothing was trained for it.

    Attributes:
        task: the kind of it, as in `promptreach.data.KindName`; ``options`` for completions that are one of several.
        rows: of the data.
        parts: by part (``train``, ``validation``, ``test``) the number of rows used, and where they come from.
        columns: the column of each role.
        unused_columns: those that play no part.
        metric: what methods are compared by.
        methods: what is trained beside the control, in order.
        cut_rows: rows that lose tokens at `max_length`.
        cut_answers: those of them that lose the end of their completion, or all or a part of their answer.
        minutes: PREDICTED wall time on this machine, as busy as it is, with one worker.
        work_seconds: the same in seconds of work: of the processor, or of the accelerator where the model is on one.
        stages: seconds of work by check, `READING` before them.
        memory_bytes: PREDICTED peak memory; `memory` says of what.
        memory: bytes of the weights, of the activations of the largest step, of its optimiser, and on a CPU of what the
            process has besides.
        device, dtype: of the model.
        settings: of the audit.
        runs: what is trained at most, where neither length nor form is to blame; longer prompts are left out where they
            cannot help.
        extra: what is trained beyond these where the verdict hangs on it: longer ones than were asked for,
            `PLANTED_PROMPT`, and everything `over` more steps. Not in `minutes`.
    """

    task: str
    rows: int
    parts: Mapping[str, Mapping[str, int | str]]
    columns: Mapping[str, str]
    unused_columns: Sequence[str]
    metric: str
    methods: Sequence[str]
    cut_rows: int
    cut_answers: int
    minutes: float
    work_seconds: float
    stages: Mapping[str, float]
    memory_bytes: int
    memory: Mapping[str, int]
    model: str
    device: str
    dtype: str
    settings: Mapping[str, Any]
    runs: Sequence[PlannedRun]
    extra: Sequence[PlannedRun] = ()

    def to_dict(self) -> dict[str, Any]:
        """The plan as JSON types."""
        return asdict(self)

    @property
    def least_minutes(self) -> float:
        """The same as `minutes` where the first prompt fits and the rest is left out."""
        return self.minutes - self.slowness * sum(run.seconds for run in self.runs if not run.comes_first) / 60

    @property
    def most_minutes(self) -> float:
        """The same where the verdict hangs on all that may be trained beyond."""
        return self.minutes + self.slowness * sum(run.seconds for run in self.extra) / 60

    @property
    def hangs_on(self) -> str:
        """What `extra` is trained for, in words."""
        longer = any(run.name == over(2 * self.settings["steps"]) for run in self.extra)
        return "length, steps or form" if longer else "length or form"

    @property
    def slowness(self) -> float:
        """Seconds by the clock for a second of work."""
        return 60 * self.minutes / self.work_seconds if self.work_seconds else 1.0

    def seconds_from(self, check: str) -> float:
        """The wall seconds that this check takes with all that come behind it."""
        names = list(self.stages)
        return self.slowness * sum(self.stages[name] for name in names[names.index(check) :])

    def time_left(self, titles: Mapping[str, str]) -> TimeLeft:
        """The plan as progress follows it; `titles` are what progress calls the stages, in their order."""
        stages = {title: self.slowness * self.stages.get(name, 0.0) for name, title in titles.items()}
        runs = {run.name: ExpectedRun(run.announced, run.steps, self.slowness * run.seconds) for run in self.runs}
        return TimeLeft(stages, runs, titles.get("training", "training"))

    def __str__(self) -> str:
        """The plan as a few lines for people."""
        parts = ", ".join(f"{part['rows']:,} {name}" for name, part in self.parts.items())
        cases = ""
        if any(not run.comes_first for run in self.runs):
            cases = f", {self.least_minutes:.1f} where the first prompt fits"
        if self.extra:
            cases += f", up to {self.most_minutes:.1f} where {self.hangs_on} may be to blame"
        used = ", ".join(f"{role} from {column!r}" for role, column in self.columns.items())
        lines = [
            f"{self.model} on {self.device} in {self.dtype}",
            f"Rows      {self.rows:,} of {self.task}: {parts}" + (f"; {used}" if used else ""),
            f"Cut       {self.cut_rows:,} rows at {self.settings['limits']['max_length']} tokens"
            + (f", {self.cut_answers:,} of them in their answer" if self.cut_answers else ""),
            f"Judged by {self.metric}",
            f"Trained   {', '.join(run.name for run in self.runs)}, {self.settings['steps']} steps of "
            f"{self.settings['batch_size']} rows",
            f"Time      about {self.minutes:.1f} minutes on this machine{cases} (PREDICTED from steps timed)",
            f"Memory    about {self.memory_bytes / 2**30:.2f} GiB (PREDICTED)",
        ]
        if self.unused_columns:
            lines.insert(2, f"Not used  {', '.join(map(repr, self.unused_columns))}")
        return "\n".join(lines)
