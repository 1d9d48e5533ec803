"""The cost of training steps on this machine: a few are taken, timed, and undone.

Times are seconds of work: of the processor where the model is on it, so that a neighbour who keeps the machine busy
makes no step dearer; by the clock where an accelerator computes. `Stopwatch` tells how long they take here and now.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import islice

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from promptreach.backbone import Backbone
from promptreach.diagnosis.measures.forgetting import plain_text
from promptreach.stored import plain_parts
from promptreach.training.methods.methods import method_named
from promptreach.training.runs import RunConfig
from promptreach.training.task.encoding import evaluation_batches, training_batches
from promptreach.training.task.judging import room_of
from promptreach.training.task.objective import Completion
from promptreach.training.task.slices import cut
from promptreach.training.task.task import Task
from promptreach.training.task.writing import greedy
from promptreach.training.trainer import Trainer

_BYTES_A_NUMBER = 4 + 4 + 8 + 4
"""Bytes of each number that is trained, in float32: itself, its gradient, Adam's two moments, and its best state."""


@dataclass(frozen=True)
class StepCost:
    """The cost of a step of one method at one size.

    Attributes:
        seconds: of work in a step, on average.
        activations: bytes that a step on the longest rows keeps for its backward pass.
        optimiser: bytes of what is trained, its gradients, moments and best state.
        setup: seconds of work to attach the method to the model, which every call for a run does.
    """

    seconds: float
    activations: int
    optimiser: int
    setup: float = 0.0


@dataclass(frozen=True)
class RowCosts:
    """The seconds of work for one row, on average.

    Attributes:
        scored: its answer scored; of a row with options all of them.
        read: its states alone.
        written: an answer written to it; 0 where none are.
        plain: every token of it scored as plain text; 0 on an encoder.
    """

    scored: float
    read: float
    written: float
    plain: float


class Stopwatch:
    """The seconds of work on a model, and how long they take by the clock.

    Attributes:
        worked: seconds of work that were timed so far.
        passed: the same by the clock.
    """

    def __init__(self, backbone: Backbone) -> None:
        on_cpu = next(backbone.release().parameters()).device.type == "cpu"
        self._clock = time.process_time if on_cpu else time.perf_counter
        self.worked = self.passed = 0.0

    @property
    def slowness(self) -> float:
        """Seconds by the clock for a second of work; 1 before anything was timed."""
        return self.passed / self.worked if self.worked > 0 and self.passed > 0 else 1.0

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Count what the block takes."""
        worked, passed = self._clock(), time.perf_counter()
        try:
            yield
        finally:
            self.worked += self._clock() - worked
            self.passed += time.perf_counter() - passed


def step_cost(task: Task, config: RunConfig, seconds: float, watch: Stopwatch | None = None) -> StepCost:
    """The cost of steps of `config`, from as many as `seconds` allow, at least one and at most those of the run.

    Nothing of them stays. The first step, on the longest rows, tells the memory and is not timed: it also pays for what
    is set up once.
    """
    watch = watch or Stopwatch(task.backbone)
    data = task.encoded["train"]
    lengths = [len(ids) for ids in data.sequences]
    longest = sorted(range(len(lengths)), key=lengths.__getitem__)[-config.batch_size :]
    drawn = training_batches(lengths, config.batch_size, torch.Generator().manual_seed(config.seed))
    batches = iter(usual_first([*islice(drawn, config.steps)], lengths))
    objective = task.objective()
    with ExitStack() as stack:
        attached = watch.worked
        with watch.timed():
            method = method_named(config.method).attach(task.backbone, config, data.sequences)
            trainable = stack.enter_context(method)
        setup = watch.worked - attached
        trained = [*trainable.parameters.values(), *objective.head_parameters()]
        before = trainable.state()
        trainer = Trainer(trainable, [(trained, 0.0)], clip=1.0) if trained else None
        weights = [part for weight in task.backbone.release().parameters() for part in plain_parts(weight)]
        kept = _Kept({weight.untyped_storage().data_ptr() for weight in weights})

        def step(rows: list[int], slices: int) -> None:
            for part in cut(rows, slices):
                batch = data.batch(task.backbone, part)
                hidden = task.backbone.hidden(batch, trainable.joined_for(len(part), 0))
                outcomes = objective.outcomes(task.backbone, hidden, batch, data, part)
                loss = outcomes.loss.sum() / data.answers(rows)
                if trainer is not None:
                    loss.backward()  # type: ignore[no-untyped-call]
            value = loss.item()  # waits for an accelerator
            if trainer is not None:
                trainer.descend(value)

        with saved_tensors_hooks(kept.pack, lambda tensor: tensor):
            step(cut(longest, task.slices.count)[-1], 1)  # one slice after another is kept
        taken, began, before_all = 0, time.perf_counter(), watch.worked
        while not taken or (taken < config.steps and time.perf_counter() - began < seconds):
            with watch.timed():
                step(next(batches), task.slices.count)
            taken += 1
        spent = watch.worked - before_all
        trainable.load(before)
    numbers = sum(tensor.numel() for tensor in trained)
    return StepCost(spent / taken, kept.bytes, _BYTES_A_NUMBER * numbers, setup)


def usual_first(batches: Sequence[list[int]], lengths: Sequence[int]) -> list[list[int]]:
    """The batches, those first whose cost is that of all on average: the positions of a row differ severalfold, and few
    batches are timed."""
    each = [max(lengths[row] for row in rows) for rows in batches]
    mean = sum(length * len(rows) for length, rows in zip(each, batches, strict=True)) / sum(map(len, batches))
    return [rows for _, rows in sorted(zip(each, batches, strict=True), key=lambda pair: abs(pair[0] - mean))]


def row_costs(task: Task, seconds: float, watch: Stopwatch) -> RowCosts:
    """The costs of a row on this machine; `seconds` bound what is timed for the first two."""
    scored, read = (row_seconds(task, seconds, watch, scored=scored) for scored in (True, False))
    return RowCosts(scored, read, answer_seconds(task, watch=watch), plain_seconds(task, watch=watch))


def row_seconds(task: Task, seconds: float, watch: Stopwatch | None = None, *, scored: bool = True) -> float:
    """The seconds of work that one row takes on average, scored or only read, from as many batches as `seconds` allow,
    and at least one; of a row with options that of all of them."""
    watch, data, objective = watch or Stopwatch(task.backbone), task.encoded["validation"], task.objective()
    rows, began, before = 0, time.perf_counter(), watch.worked
    lengths = [len(ids) for ids in data.sequences]
    with torch.no_grad():
        for drawn in usual_first([*evaluation_batches(lengths, task.batch_size)], lengths):
            if rows and time.perf_counter() - began >= seconds:
                break
            with watch.timed():
                batch = task.backbone.batch([data.sequences[row] for row in drawn])
                hidden = task.backbone.hidden(batch)
                found = objective.outcomes(task.backbone, hidden, batch, data, drawn).loss if scored else hidden
                found.sum().item()  # waits for an accelerator
            rows += len(drawn)
    each = 1.0 if data.options is None else len(data.options.sequences) / len(data)
    return each * (watch.worked - before) / rows


def plain_seconds(task: Task, rows: int = 8, watch: Stopwatch | None = None) -> float:
    """The seconds of work that scoring one row as plain text takes, every token of it, on average over some rows; 0 on
    an encoder, which models no text."""
    if task.backbone.task != "causal":
        return 0.0
    watch = watch or Stopwatch(task.backbone)
    plain = plain_text(task, task.held_out.inputs[:rows])
    if plain is None:
        return 0.0
    before = watch.worked
    with watch.timed():
        plain.evaluate("plain", Completion())
    return (watch.worked - before) / len(plain.encoded["plain"])


def answer_seconds(task: Task, rows: int = 4, watch: Stopwatch | None = None) -> float:
    """The seconds of work that writing one answer takes, on average over some rows together; 0 where none are
    written."""
    if task.judging.metric is None:
        return 0.0
    watch = watch or Stopwatch(task.backbone)
    part = task.encoded["validation"].take(range(min(rows, len(task.encoded["validation"]))))
    room, before = room_of(task.backbone, task.encoded["train"]), watch.worked
    with watch.timed():
        greedy(task.backbone, part.prompts, *room)
    return (watch.worked - before) / len(part)


class _Kept:
    """The bytes of all that a forward pass keeps, weights not counted, and what several keep only once."""

    def __init__(self, weights: set[int]) -> None:
        self._seen = weights
        self.bytes = 0

    def pack(self, tensor: Tensor) -> Tensor:
        for part in plain_parts(tensor):
            storage = part.untyped_storage()
            if storage.data_ptr() not in self._seen:
                self._seen.add(storage.data_ptr())
                self.bytes += storage.nbytes()
        return tensor


def same_length(cost: StepCost, content: float, before: int, after: int) -> StepCost:
    """The cost with `after` virtual tokens in front of so many of content, of one that was measured with `before`."""
    share = (content + after) / (content + before)
    return replace(cost, seconds=share * cost.seconds, activations=round(share * cost.activations))
