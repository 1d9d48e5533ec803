"""Training runs as records, and the store that keeps finished ones.

A run is named by a hash of everything that decides its outcome: the model, the data, the settings. See `store`.
"""

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from promptreach.backbone import Backbone, Prepended
from promptreach.files import as_output_error
from promptreach.prompt import Adapter
from promptreach.report.findings import Cell, Table
from promptreach.report.formatting import counted, format_seconds
from promptreach.report.glance import AtAGlance, View
from promptreach.training.methods.initial import WarmStart
from promptreach.training.methods.methods import CONFIGURED, Shape, method_named
from promptreach.training.store import Groups, Store, read_stored, read_tensors
from promptreach.training.task.objective import Outcomes

Paused = tuple[Groups, dict[str, Any]]
"""What `RunStore.pause` keeps of a run that is to go on: its tensors by group, and its numbers."""

RUN_VERSION = 4
"""Part of every run's name and record: raise it when the same settings would give another outcome, or another form."""


@dataclass(frozen=True, kw_only=True)
class RunConfig(Shape):
    """The settings of one training run: those of its method, whose sizes are 0 where it has none, and of the training.

    Attributes:
        method: a key of `METHODS`.
        learning_rate: of the method's own tensors (Adam), absolute.
        head_learning_rate: of the classifier head, whose features have unit variance.
        steps: optimiser steps; the rate rises over the first tenth and then falls linearly to zero.
        batch_size: examples a step.
        evaluations: how often the validation part is scored; the best state is kept.
        patience: stop after this many evaluations without a better validation loss.
        score_held_out: False for trials that only serve a choice.
        pause: stop after this many of the `steps`, with all that is needed to go on kept in the store; 0 runs to the
            end. A later run with the same settings and a later pause, or none, goes on from there, and gives bit for
            bit what it would have given without the pause.
    """

    method: str
    learning_rate: float
    steps: int
    batch_size: int
    head_learning_rate: float = 1e-3
    evaluations: int = 4
    patience: int = 3
    score_held_out: bool = True
    pause: int = 0

    @property
    def last_step(self) -> int:
        """The step at which this run ends if nothing stops it earlier."""
        return self.pause or self.steps

    @property
    def label(self) -> str:
        """A few words for tables and progress."""
        if self.method == CONFIGURED:
            return f"{json.loads(self.peft)['peft_type']} by its config"
        parts = {
            counted(self.tokens, "token"): self.tokens,
            f"rank {self.rank}": self.rank,
            f"on {' and '.join(self.lora_targets)}": self.lora_targets,
            f"bottleneck {self.bottleneck}": self.bottleneck,
            "reparameterised": self.reparameterise,
            f"dropout {self.dropout:g}": self.dropout,
            "warm start": self.start is not None,
        }
        return f"{self.method} {', '.join(name for name, there in parts.items() if there)}".strip()

    @property
    def start_name(self) -> str:
        """A name that two runs share exactly where they start alike."""
        own = {item.name for item in fields(Shape)} - {"start"}
        record = self.to_record()
        start = {name: record[name] for name in sorted(own & record.keys())} | {"start": record["start"]}
        return json.dumps([self.method, start], sort_keys=True)

    def to_record(self) -> dict[str, Any]:
        """The settings as JSON knows them; a warm start stands there by its digest, LoRA's own targets not at all."""
        record = {item.name: getattr(self, item.name) for item in fields(self)}
        for later in ("lora_targets", "own_text", "peft"):
            if not record[later]:
                del record[later]  # so that runs keep the names they had before these could be chosen
        return record | {"start": None if self.start is None else self.start.digest}


@dataclass(frozen=True)
class Evaluation:
    """One look at the validation part: after `step` steps, with the mean training loss since the last look."""

    step: int
    train_loss: float
    validation_loss: float
    validation_accuracy: float


@dataclass(frozen=True, eq=False, repr=False)
class Run(AtAGlance):
    """The outcome of one run.

    Attributes:
        config: its settings.
        status: ``diverged`` when the loss stopped being a number; the best state before that is kept.
        parameters: trainable numbers of the method itself, the shared head not counted.
        unit: the size of a typical entry at the start.
        steps: optimiser steps taken.
        seconds: wall time.
        curve: evaluations; the first is before any step (its `train_loss` is NaN), except in a trial, which looks only
            where it led to.
        validation, held_out: outcomes at the best state; `held_out` is None for a trial.
        state, head: the tensors at the best state.
    """

    config: RunConfig
    status: Literal["finished", "diverged"]
    parameters: int
    unit: float
    steps: int
    seconds: float
    curve: tuple[Evaluation, ...]
    validation: Outcomes
    held_out: Outcomes | None
    state: dict[str, Tensor]
    head: dict[str, Tensor]

    def view(self) -> View:
        """Its settings, how it ended, its scores, and its evaluations."""
        config, scores = self.config, [("validation", self.validation), ("held-out", self.held_out)]
        said = [f"{part} loss {one.mean_loss:.3f}, accuracy {one.accuracy:.1%}" for part, one in scores if one]
        size = f"{self.parameters:,} trainable numbers, {self.steps:,} steps in {format_seconds(self.seconds)}"
        about = f"learning rate {config.learning_rate:.3g}, start {config.init or 'none'}, seed {config.seed}; {size}"
        looks: list[dict[str, Cell]] = [dict(_to_json(look)) for look in self.curve]
        tables = [Table.of("Evaluations on the validation rows", looks)] if looks else []
        heading = f"{config.label}: {self.status}, kept at step {self.best_step}" if looks else config.label
        return View(f"{heading} [MEASURED]", about, said, tables)

    @property
    def adapter(self) -> Adapter | None:
        """The trained adapter, or None for a method that PEFT has no folder for; `applied` serves every method."""
        return method_named(self.config.method).adapter(self.state, self.config)

    @property
    def best_step(self) -> int:
        """The step of the state that was kept: the first of the best looks, 0 where no step did any good."""
        return min(self.curve, key=lambda look: look.validation_loss).step

    @property
    def train_loss(self) -> float:
        """The mean training loss over the last stretch between evaluations, nats per answer."""
        return self.curve[-1].train_loss


@contextmanager
def applied(backbone: Backbone, run: Run) -> Iterator[Prepended]:
    """The backbone as `run` left it at its best state, for a `with` block; pass what it gives to `Backbone.hidden`.

    For any method, also for those that PEFT has no folder for: inside the block the module of a fully fine-tuned model
    holds the tuned weights and can be saved. On leaving, the model is bit for bit what it was.
    """
    # The start is replaced at once, so that any text will do for it.
    with method_named(run.config.method).attach(backbone, run.config, [[0]]) as trainable:
        trainable.load(run.state)
        yield trainable.joined


class RunStore(Store):
    """Finished runs in a folder, one subfolder each; without a folder nothing is kept."""

    def __init__(self, folder: Path | None) -> None:
        super().__init__(folder)
        self._paused: dict[str, Paused] = {}

    def name(self, task_digest: str, config: RunConfig) -> str:
        """The name under which a run of `config` on that task is kept."""
        return self.key(RUN_VERSION, task_digest, config.to_record())

    def whole_name(self, task_digest: str, config: RunConfig) -> str:
        """The name of the run of which `config` may be a part: what all its pauses agree on."""
        return self.name(task_digest, replace(config, pause=0, score_held_out=True))

    def logger(self, name: str) -> Callable[["Evaluation"], None]:
        """Appends evaluations to the run's JSON-lines log, begun afresh.

        Raises:
            OutputError: here or later, when the log cannot be written.
        """
        file = f"{name}/log.jsonl"
        self.write(file, "")
        return lambda look: self.append(file, json.dumps(_to_json(look)))

    def get(self, name: str) -> Run | None:
        """The finished run of that name, or None; a run whose files cannot be read did not finish."""
        return self.load(name, read_run)

    def put(self, name: str, run: Run) -> None:
        """Keep a finished run. The tensors are written first: a run exists once its run.json does.

        Raises:
            OutputError: when it cannot be written.
        """
        self._paused.pop(name, None)
        if self.folder is None:
            return
        groups = {"state": run.state, "head": run.head, "validation": run.validation.tensors}
        groups |= {"held_out": run.held_out.tensors} if run.held_out else {}
        groups |= {"start": run.config.start.tensors} if run.config.start else {}
        digest = self.write_tensors(f"{name}/run.safetensors", groups)
        self.write_record(f"{name}/run.json", RunRecord.of(run, digest).model_dump())
        with as_output_error(self.folder / name):
            (self.folder / name / "paused.safetensors").unlink(missing_ok=True)

    def pause(self, name: str, groups: Groups, record: dict[str, Any]) -> None:
        """Keep what an unfinished run needs to go on; without a folder, for as long as this store lives.

        Args:
            name: of the run that goes to the end.
            groups: its tensors.
            record: its numbers, as JSON knows them.

        Raises:
            OutputError: when it cannot be written.
        """
        if self.folder is None:
            self._paused[name] = (groups, record)
        self.write_tensors(f"{name}/paused.safetensors", groups, record)

    def paused(self, name: str) -> Paused | None:
        """What `pause` kept under that name, or None; a file that cannot be read is as good as none."""
        return self._paused.get(name) or self.load(f"{name}/paused.safetensors", read_tensors)


class RunRecord(BaseModel):
    """The run.json of a run: what is written there is made of it, and what is read has to be one.

    Attributes:
        version: `RUN_VERSION`.
        status, parameters, unit, steps, seconds: as in `Run`.
        config: `RunConfig.to_record`.
        curve: its evaluations; a loss that is not a number stands as None.
        tensors: the digest of run.safetensors, which lies beside it.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    version: Literal[4] = 4
    status: Literal["finished", "diverged"]
    parameters: Annotated[int, Field(ge=0)]
    unit: float
    steps: Annotated[int, Field(ge=0)]
    seconds: float
    config: dict[str, Any]
    curve: list[dict[Literal["step", "train_loss", "validation_loss", "validation_accuracy"], int | float | None]]
    tensors: str

    @classmethod
    def of(cls, run: Run, tensors: str) -> "RunRecord":
        """The record of a run whose tensors have that digest."""
        plain = {key: getattr(run, key) for key in ("status", "parameters", "unit", "steps", "seconds")}
        curve = [_to_json(look) for look in run.curve]
        return cls.model_validate({**plain, "config": run.config.to_record(), "curve": curve, "tensors": tensors})


def _to_json(look: Evaluation) -> dict[str, int | float | None]:
    """JSON has no NaN: a loss that is not a number stands as null."""
    return {key: value if math.isfinite(value) else None for key, value in asdict(look).items()}


def read_run(folder: Path) -> Run:
    """The run that `RunStore.put` wrote there.

    Raises:
        FormatError: when it is of another version.
        OSError, ValueError, TypeError, KeyError, SafetensorError: when it is not whole.
    """
    record = RunRecord.model_validate(read_stored(folder / "run.json", RUN_VERSION))
    groups, _ = read_tensors(folder / "run.safetensors", record.tensors)
    start = WarmStart.of(groups["start"]) if "start" in groups else None
    if (start and start.digest) != record.config["start"]:
        raise ValueError("the start is not the one of these settings")
    listed = {name: tuple(record.config.get(name, ())) for name in ("lora_targets", "own_text")}
    curve = [{key: math.nan if value is None else value for key, value in look.items()} for look in record.curve]
    return Run(
        **record.model_dump(include={"status", "parameters", "unit", "steps", "seconds"}),
        config=RunConfig(**record.config | {"start": start} | listed),
        curve=tuple(Evaluation(int(look.pop("step")), **look) for look in curve),
        validation=Outcomes(**groups["validation"]),
        held_out=Outcomes(**groups["held_out"]) if "held_out" in groups else None,
        state=groups["state"],
        head=groups["head"],
    )
