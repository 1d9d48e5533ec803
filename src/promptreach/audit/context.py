"""The experiment of one audit, with what only its own checks look at."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from promptreach.audit.estimate import Opening
from promptreach.audit.settings import Settings
from promptreach.backbone import Classifier, TokenBatch
from promptreach.data import TaskData
from promptreach.diagnosis.experiment import Experiment, longest_prompt
from promptreach.diagnosis.measures.in_context import start_text
from promptreach.hf import OpenModel
from promptreach.hf.adapters.by_config import config_of
from promptreach.progress import Progress
from promptreach.prompt import Adapter
from promptreach.training.engines.executor import Executor, InProcess
from promptreach.training.fit import own_tokens
from promptreach.training.methods.methods import positions_of
from promptreach.training.runs import RunStore
from promptreach.training.task.limits import drawn_rows
from promptreach.training.task.readout import Pooling
from promptreach.training.task.task import Task, prepare


@dataclass(eq=False, kw_only=True)
class AuditContext(Experiment):
    """One audit under way: an `Experiment`, and these.

    Attributes:
        model: what is audited.
        probe_rows: held-out examples on which queries and keys are captured.
        progress: shows what takes long.
        predicts: whether predictions stand beside what was trained.
        opening: what was expected when it began; None where nobody asked for an estimate.
    """

    model: OpenModel
    probe_rows: int
    progress: Progress
    predicts: bool = True
    opening: Opening | None = None

    @cached_property
    def probe_batch(self) -> TokenBatch:
        """A few held-out examples, drawn with the audit's seed and tokenized, for looking inside the model."""
        sequences = self.task.encoded["held_out"].sequences
        return self.model.batch([sequences[row] for row in drawn_rows(len(sequences), self.probe_rows, self.seed)])


def prepared(
    model: OpenModel,
    data: TaskData,
    settings: Settings,
    *,
    progress: Progress | None = None,
    executor_of: Callable[[Task], Executor] | None = None,
    user_adapter: Adapter | None = None,
    user_pooling: Pooling | None = None,
    classifier: Classifier | None = None,
    user_base: str = "",
    user_tokens: tuple[str, ...] = (),
    opening: Opening | None = None,
) -> AuditContext:
    """The data split, encoded and with its read-out, ready to be audited.

    Args:
        executor_of: who trains runs on a task; None trains them here, one after another, and keeps none.
        user_adapter, user_pooling, classifier, user_base, user_tokens: as in `Experiment`.
        opening: as in `AuditContext`.

    Raises:
        InputError, DataError: as `promptreach.tuning.prepare` does.
    """
    shown = progress or Progress(quiet=True)
    longest = longest_prompt(settings.tokens, user_adapter)
    if settings.method_config:
        longest = max(longest, positions_of(config_of(json.loads(settings.method_config))))
    with shown.task("reading the frozen model", total=None):
        task = prepare(
            model,
            data,
            limits=settings.limits,
            seed=settings.seed,
            longest_prompt=longest,
            class_weights=settings.class_weights,
            accumulate=settings.accumulate,
            judging=settings.judging,
        )
    context = AuditContext(
        data=data,
        task=task,
        executor_of=executor_of or (lambda task: InProcess(task, RunStore(None), shown)),
        tokens=settings.tokens,
        every_run=settings.every_run,
        rank=settings.rank,
        steps=settings.steps,
        longest_training=settings.longest_training,
        batch_size=settings.batch_size,
        seed=settings.seed,
        seeds=settings.seeds,
        methods=settings.methods,
        chosen_metric=settings.metric,
        lora_targets=settings.lora_targets,
        learning_rates=settings.learning_rates,
        limits=settings.limits,
        instruction=settings.instruction,
        shots=settings.shots,
        method_config=settings.method_config,
        user_adapter=user_adapter,
        user_pooling=user_pooling,
        classifier=classifier,
        user_base=user_base,
        user_tokens=user_tokens,
        model=model,
        probe_rows=settings.probe_rows,
        progress=shown,
        predicts=settings.budget == "thorough",
        opening=opening,
    )
    if settings.init_text:
        context.own_text = own_tokens(model, start_text(context, settings.init_text))
    return context
