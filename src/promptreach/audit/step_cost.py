"""The cost of training steps on this machine: a few are taken, timed, and undone."""

import time
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from promptreach.stored import plain_parts
from promptreach.training.methods.methods import method_named
from promptreach.training.runs import RunConfig
from promptreach.training.task.encoding import training_batches
from promptreach.training.task.judging import room_of
from promptreach.training.task.slices import cut
from promptreach.training.task.task import Task
from promptreach.training.task.writing import greedy

_BYTES_A_NUMBER = 4 + 4 + 8 + 4
"""Bytes of each number that is trained, in float32: itself, its gradient, Adam's two moments, and its best state."""


@dataclass(frozen=True)
class StepCost:
    """The cost of a step of one method at one size.

    Attributes:
        seconds: of a step, on average.
        activations: bytes that a step on the longest rows keeps for its backward pass.
        optimiser: bytes of what is trained, its gradients, moments and best state.
    """

    seconds: float
    activations: int
    optimiser: int


def step_cost(task: Task, config: RunConfig, seconds: float) -> StepCost:
    """The cost of steps of `config`, from as many as `seconds` allow, and at least one; nothing of them stays.

    The first step, on the longest rows, tells the memory and is not timed: it also pays for what is set up once.
    """
    data = task.encoded["train"]
    lengths = [len(ids) for ids in data.sequences]
    longest = sorted(range(len(lengths)), key=lengths.__getitem__)[-config.batch_size :]
    batches = training_batches(lengths, config.batch_size, torch.Generator().manual_seed(config.seed))
    objective = task.objective()
    with method_named(config.method).attach(task.backbone, config, data.sequences) as trainable:
        trained = [*trainable.parameters.values(), *objective.head_parameters()]
        before = trainable.state()
        optimiser = torch.optim.AdamW(trained, lr=0.0, weight_decay=0.0) if trained else None
        weights = [part for weight in task.backbone.release().parameters() for part in plain_parts(weight)]
        kept = _Kept({weight.untyped_storage().data_ptr() for weight in weights})

        def step(rows: list[int], slices: int) -> None:
            for part in cut(rows, slices):
                batch = data.batch(task.backbone, part)
                hidden = task.backbone.hidden(batch, trainable.joined_for(len(part), 0))
                outcomes = objective.outcomes(task.backbone, hidden, batch, data, part)
                loss = outcomes.loss.sum() / data.answers(rows)
                if optimiser is not None:
                    loss.backward()  # type: ignore[no-untyped-call]
            if optimiser is not None:
                optimiser.step()
                optimiser.zero_grad()
            loss.item()  # waits for an accelerator

        with saved_tensors_hooks(kept.pack, lambda tensor: tensor):
            step(cut(longest, task.slices.count)[-1], 1)  # one slice after another is kept
        taken, began = 0, time.perf_counter()
        while not taken or time.perf_counter() - began < seconds:
            step(next(batches), task.slices.count)
            taken += 1
        spent = time.perf_counter() - began
        trainable.load(before)
    numbers = sum(tensor.numel() for tensor in trained)
    return StepCost(spent / taken, kept.bytes, _BYTES_A_NUMBER * numbers)


def row_seconds(task: Task, seconds: float) -> float:
    """The seconds that scoring one row takes, on average, from as many batches as `seconds` allow, and at least one; of
    a row with options that of all of them."""
    data, objective = task.encoded["validation"], task.objective()
    rows, began = 0, time.perf_counter()
    with torch.no_grad():
        while not rows or time.perf_counter() - began < seconds:
            drawn = [row % len(data) for row in range(rows, rows + min(task.batch_size, len(data)))]
            batch = task.backbone.batch([data.sequences[row] for row in drawn])
            objective.outcomes(task.backbone, task.backbone.hidden(batch), batch, data, drawn).loss.sum().item()
            rows += len(drawn)
    each = 1.0 if data.options is None else len(data.options.sequences) / len(data)
    return each * (time.perf_counter() - began) / rows


def answer_seconds(task: Task, rows: int = 4) -> float:
    """The seconds that writing one answer takes, on average over some rows together; 0 where none are written."""
    if task.judging.metric is None:
        return 0.0
    part = task.encoded["validation"].take(range(min(rows, len(task.encoded["validation"]))))
    room, began = room_of(task.backbone, task.encoded["train"]), time.perf_counter()
    greedy(task.backbone, part.prompts, *room)
    return (time.perf_counter() - began) / len(part)


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
