"""What every check may look at, and what the training check leaves for the later ones."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

from promptreach.audit.settings import Settings
from promptreach.backbone import Classifier, TokenBatch
from promptreach.data import LabelledTexts, TaskData
from promptreach.diagnosis.experiment import Measured, Study
from promptreach.diagnosis.measures.user_run import Theirs
from promptreach.hf import OpenModel
from promptreach.progress import Progress
from promptreach.prompt import Adapter
from promptreach.training.engines.executor import Executor, InProcess
from promptreach.training.runs import Run, RunStore
from promptreach.training.search.sweep import Sweep
from promptreach.training.task.readout import Pooling
from promptreach.training.task.task import Task, drawn_rows, prepare


@dataclass(eq=False)
class AuditContext:
    """One audit under way.

    Attributes:
        model, data, settings: what is audited, and how much is spent.
        store: keeps finished training runs.
        progress: shows them.
        adapter: the user's own adapter, or None.
        reading: where the adapter's own classifier reads, or None where that is not known.
        classifier: that classifier itself, where it can be run.
        executor_of: who trains runs on a task; None trains them here, one after another.
        sweeps: by `RunConfig.label` (``"prompt 16 tokens"``, ``"lora rank 8"``, ``"head"``), once trained.
        theirs: the adapter's scores, once the training check has them.
        found: what was measured, by name: what the rules read.
    """

    model: OpenModel
    data: TaskData
    settings: Settings
    store: RunStore
    progress: Progress
    adapter: Adapter | None = None
    reading: Pooling | None = None
    classifier: Classifier | None = None
    executor_of: Callable[[Task], Executor] | None = None
    sweeps: dict[str, Sweep] = field(default_factory=dict)
    theirs: Theirs | None = None
    found: dict[str, Measured] = field(default_factory=dict)

    @property
    def is_classification(self) -> bool:
        return isinstance(self.data, LabelledTexts)

    @cached_property
    def task(self) -> Task:
        """The data split, encoded, and with its read-out; made once."""
        with self.progress.task("reading the frozen model", total=None):
            return prepare(
                self.model,
                self.data,
                limits=self.settings.limits,
                seed=self.settings.seed,
                longest_prompt=self.longest_prompt,
            )

    @property
    def longest_prompt(self) -> int:
        """The room that the longest prompt needs, the user's own included."""
        return max(*self.settings.tokens, getattr(self.adapter, "length", 0))

    @cached_property
    def study(self) -> Study:
        """The same audit as the rooms that measure and judge see it; it keeps what they find."""
        settings = self.settings
        return Study(
            data=self.data,
            task=self.task,
            executor_of=self.executor,
            tokens=settings.tokens,
            every_length=False,
            rank=settings.rank,
            steps=settings.steps,
            batch_size=settings.batch_size,
            seed=settings.seed,
            adapter=self.adapter,
            reading=self.reading,
            classifier=self.classifier,
            sweeps=self.sweeps,
            found=self.found,
        )

    def executor(self, task: Task) -> Executor:
        """Who trains runs on a task."""
        return self.executor_of(task) if self.executor_of else InProcess(task, self.store, self.progress)

    def prepare(self) -> None:
        """Encode the data and probe the frozen model now, so that data that does not fit is refused before training.

        Raises:
            InputError: as `promptreach.tuning.prepare` does.
        """
        _ = self.task

    def best(self, method: str) -> Run | None:
        """The trained run of a method with the lowest validation loss, or None if none was trained."""
        return self.study.best(method)

    @cached_property
    def probe_batch(self) -> TokenBatch:
        """A few held-out examples, drawn with the audit's seed and tokenized, for looking inside the model."""
        sequences = self.task.encoded["held_out"].sequences
        rows = drawn_rows(len(sequences), self.settings.probe_rows, self.settings.seed)
        return self.model.batch([sequences[row] for row in rows])
