"""The experiment that every measurement looks at: what is examined, how much is spent on it, what was found so far."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Generic, TypeVar

from torch import Tensor

from promptreach.backbone import Classifier
from promptreach.certificate import Certificate, Evidence
from promptreach.data import LabelledTexts, TaskData
from promptreach.diagnosis.measures.comparison import paired
from promptreach.diagnosis.numbers import BASELINES, USER, Comparison, Goal, as_values
from promptreach.diagnosis.verdict import Attempt
from promptreach.prompt import Adapter
from promptreach.training.engines.executor import Executor
from promptreach.training.methods.initial import OWN
from promptreach.training.methods.methods import first_init
from promptreach.training.runs import Run, RunConfig
from promptreach.training.search.halving import by_metric
from promptreach.training.search.sweep import Sweep
from promptreach.training.task.deciding import RARE, positive_label, usual_metric
from promptreach.training.task.kinds.kind import TaskKind
from promptreach.training.task.kinds.registry import kind_of
from promptreach.training.task.limits import Limits, content_length
from promptreach.training.task.metric_names import Metric, ScoreMetric
from promptreach.training.task.objective import Outcomes
from promptreach.training.task.readout import Pooling
from promptreach.training.task.task import Task

Numbers = TypeVar("Numbers", covariant=True)


@dataclass(frozen=True)
class Measured(Generic[Numbers]):
    """The findings of one measurement.

    Attributes:
        numbers: a record of `promptreach.diagnosis.numbers`, or values by name.
        sample: what was looked at.
        evidence: the weakest kind of knowledge among the numbers.
        certificates: behind the numbers that are proved.
        reason: why nothing was measured; empty here, given by `Skipped`.
    """

    numbers: Numbers
    sample: str
    evidence: Evidence = Evidence.MEASURED
    certificates: tuple[Certificate, ...] = ()
    reason: ClassVar[str] = ""

    @property
    def values(self) -> dict[str, Any]:
        """The numbers as reports hold them: JSON types by name."""
        return as_values(self.numbers)

    def __getitem__(self, key: str) -> Any:
        return self.values[key]


@dataclass(frozen=True)
class Skipped:
    """A measurement that was not made, and why; it has the attributes of `Measured`, and no numbers."""

    reason: str
    sample: ClassVar[str] = ""
    evidence: ClassVar[Evidence] = Evidence.UNKNOWN
    certificates: ClassVar[tuple[Certificate, ...]] = ()

    @property
    def values(self) -> dict[str, Any]:
        """No numbers."""
        return {}

    def __getitem__(self, key: str) -> Any:
        raise KeyError(f"{key}: {self.reason}")


@dataclass(frozen=True, eq=False)
class UserRun:
    """The user's own training, as far as it can be scored.

    Attributes:
        outcomes: on the held-out rows, through the user's own read-out where that is known.
        adapter: the adapter itself; for an attempt, what it came to.
        answers: the class that it puts each held-out row into; an output that stands for no label counts on behind the
            classes. None for completions.
        status: ``diverged`` when the attempt's loss stopped being a number.
        outputs: of its own classifier, which one stands for each class; None where it has none, or answers through a
            head fitted here.
        num_outputs: of that classifier.
    """

    outcomes: Outcomes
    adapter: Adapter | None
    answers: Tensor | None
    status: str = "finished"
    outputs: tuple[int, ...] | None = None
    num_outputs: int = 0


@dataclass(eq=False)
class Experiment:
    """One model, its data, perhaps somebody's own training of it, and what has been trained and found so far.

    Attributes:
        data: all rows.
        task: the same rows split, encoded and with a read-out.
        executor_of: who trains runs on a task; the planted prompt and another read-out are tasks of their own.
        tokens: lengths of the prompts trained, ascending; the prefix gets the middle one.
        every_run: whether lengths and forms are trained that cannot change the verdict any more, see `measures.race`.
        rank: of the LoRA update; 0 takes the one whose parameters come closest to those of the longest prompt.
        steps, batch_size: of a full run; the search for a rate starts with an eighth of the steps a candidate. Steps
            grow where the verdict hangs on runs that were not at their end.
        longest_training: the most times over that the steps asked for are trained then.
        seed: for starts and orders.
        goal: ``"generalise"`` judges on held-out rows, ``"memorise"`` on the training rows themselves.
        limits: how much of the data is used, and how long an example may be.
        attempt: what the user trained, to be trained again in the same way, or None.
        user_adapter: what the user has trained already, or None.
        user_pooling: where the adapter's own classifier reads, or None where that is not known.
        classifier: that classifier itself, where it can be run.
        user_base: the base model that the adapter names, where that is another; otherwise empty.
        user_tokens: of the adapter's own tokenizer, which the texts were read with.
        plain_text: texts on which an adapter should change nothing; empty takes the inputs that are held out.
        instruction, shots: words to put in front of the rows for the bare model, and how many examples.
        own_text: token ids of the user's text, which prompts and prefixes start from; otherwise none.
        method_config: of a method of PEFT that is trained as well, as text; otherwise empty.
        sweeps: by `RunConfig.label` (``"prompt 16 tokens"``, ``"lora rank 8"``, ``"head"``), once trained.
        starts: the starts tried for each of them; its sweep is that of the best.
        not_needed: what the race left out, by its name, and why.
        seeds: how many seeds the winners are trained with.
        user_run: the attempt or the adapter, once scored.
        asked: by its name, each way of asking with words in front of the rows, once it was scored: its outcomes, how
            many rows were cut, and how many tokens they have in the middle.
        found: what was measured so far, by the name of its step.
        steps_asked: `steps` as they were at first.
    """

    data: TaskData
    task: Task
    executor_of: Callable[[Task], Executor]
    tokens: tuple[int, ...]
    steps: int
    batch_size: int
    rank: int = 0
    every_run: bool = True
    longest_training: int = 4
    seed: int = 0
    goal: Goal = "generalise"
    limits: Limits = field(default_factory=Limits)
    attempt: Attempt | None = None
    user_adapter: Adapter | None = None
    user_pooling: Pooling | None = None
    classifier: Classifier | None = None
    user_base: str = ""
    user_tokens: tuple[str, ...] = ()
    methods: tuple[str, ...] = BASELINES
    chosen_metric: Metric | None = None
    learning_rates: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    lora_targets: tuple[str, ...] = ()
    plain_text: tuple[str, ...] = ()
    instruction: str = ""
    shots: int = 0
    own_text: tuple[int, ...] = ()
    method_config: str = ""
    sweeps: dict[str, Sweep] = field(default_factory=dict)
    starts: dict[str, tuple[str, ...]] = field(default_factory=dict)
    not_needed: dict[str, str] = field(default_factory=dict)
    seeds: int = 1
    user_run: UserRun | None = None
    asked: dict[str, tuple[Outcomes, int, int]] = field(default_factory=dict)
    found: dict[str, Measured[object] | Skipped] = field(default_factory=dict)
    steps_asked: int = field(init=False)

    def __post_init__(self) -> None:
        self.steps_asked = self.steps

    @property
    def kind(self) -> TaskKind | None:
        """What is read through a head; None for completions."""
        return kind_of(self.data)

    @property
    def is_classification(self) -> bool:
        """Whether a row has one label."""
        return isinstance(self.data, LabelledTexts)

    @property
    def metric(self) -> Metric:
        """The score that methods are compared by: the one chosen, else the kind's usual one, loss for completions."""
        return self.chosen_metric or usual_metric(self.data)

    @cached_property
    def positive(self) -> int:
        """The label that F1 and average precision are about."""
        return positive_label(self.data)

    @cached_property
    def beside(self) -> ScoreMetric | None:
        """The metric that is shown beside accuracy: the one that decides, or F1 where one of two labels is rare."""
        if self.metric != "accuracy" and self.metric != "loss":
            return self.metric
        if not isinstance(self.data, LabelledTexts) or len(self.data.label_names) != 2:
            return None
        positive = self.positive
        share = sum(label == positive for label in self.data.labels) / len(self.data.labels)
        return "f1" if share < RARE else None

    @property
    def every_row(self) -> bool:
        """Whether the rows judged on are all that the question is about."""
        return self.goal == "memorise"

    @property
    def middle_length(self) -> int:
        """The slots of the prefix, and the prompt length whose learning rate is searched."""
        return self.tokens[len(self.tokens) // 2]

    @property
    def content_length(self) -> int:
        """The tokens of an example that the model reads beside the longest prompt, the user's own included."""
        return content_length(self.task.backbone, self.limits, longest_prompt(self.tokens, self.user_adapter))

    @property
    def user_settings(self) -> Attempt | None:
        """The user's own training: the attempt, or what is known of the adapter."""
        adapter = self.user_adapter
        if self.attempt is not None or adapter is None:
            return self.attempt
        rank = adapter.rank if adapter.kind == "lora" else 0
        return Attempt(adapter.kind, adapter.positions, rank, pooling=self.user_pooling)

    @property
    def judged_rows(self) -> str:
        """The rows that scores are from, in words."""
        rows = len(self.task.held_out)
        return f"all {rows:,} training rows" if self.every_row else f"{rows:,} held-out rows"

    @property
    def sample(self) -> str:
        """The rows that a run is trained and measured on, in words."""
        if self.every_row:
            return f"{self.judged_rows}, 1 seed"
        return f"{len(self.task.train):,} training and {self.judged_rows}, 1 seed"

    def config(self, method: str, tokens: int = 0, rank: int = 0, init: str = "") -> RunConfig:
        """The settings of a full run of a method; the learning rate is chosen by a sweep."""
        own = self.own_text if method in ("prompt", "prefix") and not init else ()
        if own and not self.task.backbone.lacks(method, "text"):
            init = OWN
        return RunConfig(
            method=method,
            tokens=tokens,
            rank=rank,
            lora_targets=self.lora_targets if method == "lora" else (),
            init=init or first_init(self.task.backbone, method),
            own_text=own if init == OWN else (),
            learning_rate=0.0,
            steps=self.steps if method != "head" else 0,
            batch_size=self.batch_size,
            seed=self.seed,
        )

    def compare(self, better: Outcomes, worse: Outcomes) -> Comparison:
        """The gain of one run over another on the rows judged."""
        return paired(better, worse, self.metric, every_row=self.every_row, positive=self.positive)

    @property
    def runs(self) -> dict[str, Run]:
        """The full run of every sweep, by name; the head-only control among them once it is trained."""
        return {name: entry.best for name, entry in self.sweeps.items()}

    def best(self, *methods: str) -> Run | None:
        """The finished run of those methods that comes first by `preference`, or None."""
        finished = [run for run in self.runs.values() if run.config.method in methods and run.status == "finished"]
        return min(finished, key=self.preference, default=None)

    def preference(self, run: Run) -> tuple[bool, float, float]:
        """The place of a run among others, by the metric that decides."""
        return by_metric(self.metric, self.positive)(run)

    def best_adapters(self, *methods: str) -> dict[str, Adapter]:
        """The adapter of each method's best run, by the run's name; methods without one are left out."""
        runs = [run for method in methods if (run := self.best(method)) is not None]
        return {run.config.label: run.adapter for run in runs if run.adapter is not None}

    def adapters(self) -> dict[str, Adapter]:
        """Everything trained that is an adapter, the user's own included."""
        found = {name: run.adapter for name, run in self.runs.items()}
        found[USER] = self.user_run.adapter if self.user_run else self.user_adapter
        return {name: adapter for name, adapter in found.items() if adapter is not None}

    @property
    def numbers(self) -> list[object]:
        """The records of all that was measured: what rules read."""
        return [entry.numbers for entry in self.found.values() if isinstance(entry, Measured)]


def longest_prompt(tokens: tuple[int, ...], adapter: Adapter | None) -> int:
    """The room that the longest prompt needs in the context, the user's own adapter included."""
    return max(*tokens, 0 if adapter is None else adapter.positions)
