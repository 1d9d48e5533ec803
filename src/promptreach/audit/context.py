"""What every check may look at, and what the training check leaves for the later ones."""

from dataclasses import dataclass, field
from functools import cached_property

from promptreach.audit.settings import Settings
from promptreach.data import LabelledTexts, TaskData
from promptreach.hf import OpenModel
from promptreach.progress import Progress
from promptreach.prompt import Adapter
from promptreach.tuning.backbone import TokenBatch
from promptreach.tuning.runs import Run, RunConfig, RunStore
from promptreach.tuning.sweep import Sweep
from promptreach.tuning.task import Task, prepare


@dataclass(eq=False)
class AuditContext:
    """One audit under way.

    Attributes:
        model, data, settings: what is audited, and how much is spent.
        store: keeps finished training runs.
        progress: shows them.
        adapter: the user's own adapter, or None.
        sweeps: by `RunConfig.label` (``"prompt 16 tokens"``, ``"lora rank 8"``, ``"head"``), once trained.
    """

    model: OpenModel
    data: TaskData
    settings: Settings
    store: RunStore
    progress: Progress
    adapter: Adapter | None = None
    sweeps: dict[str, Sweep] = field(default_factory=dict)

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
                longest_prompt=max(self.settings.tokens),
            )

    def prepare(self) -> None:
        """Encode the data and probe the frozen model now, so that data that does not fit is refused before training.

        Raises:
            InputError: as `promptreach.tuning.prepare` does.
        """
        assert self.task is not None

    def config(self, method: str, tokens: int = 0, rank: int = 0, init: str = "") -> RunConfig:
        """The settings of a full run of a method; the learning rate is chosen by a sweep."""
        return RunConfig(
            method=method,
            tokens=tokens,
            rank=rank,
            init=init,
            learning_rate=0.0,
            steps=self.settings.steps if method != "head" else 0,
            batch_size=self.settings.batch_size,
            seed=self.settings.seed,
        )

    def best(self, method: str) -> Run | None:
        """The trained run of a method with the lowest validation loss, or None if none was trained."""
        runs = [sweep.best for sweep in self.sweeps.values() if sweep.best.config.method == method]
        return min(runs, key=lambda run: run.validation.mean_loss, default=None)

    @cached_property
    def probe_batch(self) -> TokenBatch:
        """A few held-out examples, tokenized, for looking inside the model."""
        sequences = self.task.encoded["held_out"].sequences[: self.settings.probe_rows]
        return self.model.batch(sequences)
