"""What is diagnosed, and how much is spent on it: the one object that every measurer looks at."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from promptreach.backbone import Classifier
from promptreach.certificate import Certificate, Evidence
from promptreach.data import LabelledTexts, TaskData
from promptreach.diagnosis.verdict import Attempt
from promptreach.prompt import Adapter, LowRankUpdate, Prefix, SoftPrompt
from promptreach.training.engines.executor import Executor
from promptreach.training.methods.methods import METHODS
from promptreach.training.runs import Run, RunConfig
from promptreach.training.search.sweep import Sweep
from promptreach.training.task.readout import Pooling
from promptreach.training.task.task import Task

Goal = Literal["generalise", "memorise"]


@dataclass(frozen=True)
class Measured:
    """What one measurer found.

    Attributes:
        name: its key in findings and in rules.
        evidence: the weakest kind of knowledge among `values`.
        sample: what was looked at.
        values: numbers and names, JSON types only.
        reason: why nothing was measured; empty when something was.
        certificates: behind the numbers that are proved.
    """

    name: str
    evidence: Evidence
    sample: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""
    certificates: tuple[Certificate, ...] = ()

    def __getitem__(self, key: str) -> Any:
        return self.values[key]


def not_measured(name: str, reason: str) -> Measured:
    """A finding without numbers, and why."""
    return Measured(name, Evidence.UNKNOWN, reason=reason)


@dataclass(eq=False)
class Study:
    """One model, its data, perhaps somebody's own training of it, and what has been trained so far.

    Attributes:
        data: all rows.
        task: the same rows split, encoded and with a read-out.
        executor_of: who trains runs on a task; the planted prompt and another read-out are tasks of their own.
        tokens: lengths of the prompts trained, ascending; the prefix gets the middle one.
        every_length: whether prompts longer than the middle one are trained even where that one is as good as LoRA and
            no better than the next shorter one, so that tokens do not bind.
        rank: of the LoRA update; 0 takes the one whose parameters come closest to those of the longest prompt.
        steps, batch_size: of a full run; the search for a rate starts with a sixteenth of the steps a candidate.
        seed: for starts and orders.
        goal: ``"generalise"`` judges on held-out rows, ``"memorise"`` on the training rows themselves.
        attempt: what the user trained, to be trained again in the same way, or None.
        adapter: what the user has trained already, or None.
        reading: where the adapter's own classifier reads, or None where that is not known.
        classifier: that classifier itself, where it can be run.
        plain_text: texts on which an adapter should change nothing; empty takes the inputs that are held out.
        sweeps: by `RunConfig.label`, once trained.
        found: what was measured so far, by name.
    """

    data: TaskData
    task: Task
    executor_of: Callable[[Task], Executor]
    tokens: tuple[int, ...]
    steps: int
    batch_size: int
    rank: int = 0
    every_length: bool = True
    seed: int = 0
    goal: Goal = "generalise"
    attempt: Attempt | None = None
    adapter: Adapter | None = None
    reading: Pooling | None = None
    classifier: Classifier | None = None
    plain_text: tuple[str, ...] = ()
    sweeps: dict[str, Sweep] = field(default_factory=dict)
    found: dict[str, Measured] = field(default_factory=dict)

    @property
    def is_classification(self) -> bool:
        return isinstance(self.data, LabelledTexts)

    @property
    def metric(self) -> Literal["accuracy", "loss"]:
        """What methods are compared by."""
        return "accuracy" if self.is_classification else "loss"

    @property
    def every_row(self) -> bool:
        """Whether the rows judged on are all that the question is about."""
        return self.goal == "memorise"

    @property
    def prefix_tokens(self) -> int:
        """The slots of the prefix, and the prompt length whose learning rate is searched."""
        return self.tokens[len(self.tokens) // 2]

    @property
    def theirs(self) -> Attempt | None:
        """The user's own training: the attempt, or what is known of the adapter."""
        if self.attempt is not None or self.adapter is None:
            return self.attempt
        kinds = {SoftPrompt: "prompt", Prefix: "prefix", LowRankUpdate: "lora"}
        if isinstance(self.adapter, LowRankUpdate):
            return Attempt("lora", rank=self.adapter.rank, pooling=self.reading)
        return Attempt(kinds[type(self.adapter)], tokens=self.adapter.length, pooling=self.reading)

    @property
    def judged_rows(self) -> str:
        """The rows that scores are from, in words."""
        rows = len(self.task.held_out)
        return f"all {rows:,} training rows" if self.every_row else f"{rows:,} held-out rows"

    @property
    def sample(self) -> str:
        """What a trained run is measured on, in words."""
        if self.every_row:
            return f"{self.judged_rows}, 1 seed"
        return f"{len(self.task.train):,} training and {self.judged_rows}, 1 seed"

    def config(self, method: str, tokens: int = 0, rank: int = 0, init: str = "") -> RunConfig:
        """The settings of a full run of a method; the learning rate is chosen by a sweep."""
        return RunConfig(
            method=method,
            tokens=tokens,
            rank=rank,
            init=init or METHODS[method].inits[0],
            learning_rate=0.0,
            steps=self.steps if method != "head" else 0,
            batch_size=self.batch_size,
            seed=self.seed,
        )

    def best(self, *methods: str) -> Run | None:
        """The finished run of those methods with the lowest validation loss, or None."""
        runs = [entry.best for entry in self.sweeps.values() if entry.best.config.method in methods]
        finished = [run for run in runs if run.status == "finished"]
        return min(finished, key=lambda run: run.validation.mean_loss, default=None)

    def keep(self, found: Measured) -> Measured:
        """Remember a finding, and hand it on."""
        self.found[found.name] = found
        return found

    @property
    def values(self) -> dict[str, Mapping[str, Any]]:
        """The numbers of all that was measured, by name: what rules read."""
        return {name: found.values for name, found in self.found.items() if not found.reason}
