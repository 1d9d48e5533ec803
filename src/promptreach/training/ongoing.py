"""One training run under way: it can stop after any step and go on later as if nothing had happened.

It owns all that decides its path: its tensors, its head, its optimiser, its rate's schedule and its order of
the examples. The forward pass alone may be shared with other runs (see `side_by_side`).
"""

import math
import time
from collections.abc import Mapping
from dataclasses import asdict
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from promptreach.training.methods.methods import Trainable
from promptreach.training.runs import Evaluation, Run, RunConfig, RunStore
from promptreach.training.task.encoding import training_batches
from promptreach.training.task.objective import Outcomes
from promptreach.training.task.task import Task

_WARMUP = 0.1
_CLIP = 1.0


class OngoingRun:
    """A run of `config` on `task`, standing at its start or where an earlier pause left it.

    Args:
        task: what is trained on.
        config: the settings.
        trainable: the method's tensors, attached to the task's backbone for as long as this run goes on.
        store: takes the log, and holds what an earlier pause kept.

    Attributes:
        task, config, trainable: as given.
        objective: with a head of its own.
        steps: optimiser steps taken.
    """

    def __init__(self, task: Task, config: RunConfig, trainable: Trainable, store: RunStore) -> None:
        self.task = task
        self.config = config
        self.trainable = trainable
        self.objective = task.objective()
        self.steps = 0
        self._store = store
        self._began = time.monotonic()
        self._seconds_before = 0.0
        self._own = list(trainable.parameters.values())
        self._head = self.objective.head_parameters()
        self._optimiser = _Adam(self._own, config.learning_rate, self._head, config.head_learning_rate)
        self._losses: list[float] = []
        self._curve: list[Evaluation] = []
        self._diverged = False
        self._seen: Outcomes | None = None
        self._best: tuple[dict[str, Tensor], dict[str, Tensor], Outcomes | None] = (*self._state(), None)
        self._last_step = config.last_step if self._own else 0
        self._stops = {max(1, round(config.steps * (i + 1) / config.evaluations)) for i in range(config.evaluations)}
        self._log = store.logger(store.name(task.digest, config))
        if config.score_held_out or not config.pause:  # the start that trials share is looked at once
            self._look()
        self._go_on()
        lengths = [len(ids) for ids in task.encoded["train"].sequences]
        order = torch.Generator().manual_seed(config.seed)
        self._batches = islice(training_batches(lengths, config.batch_size, order), self.steps, None)

    @property
    def is_over(self) -> bool:
        """No step is left: all were taken, the loss stopped being a number, or (without a pause) it stopped falling."""
        stalled = not self.config.pause and _has_stalled(self._curve, self.config.patience)
        return self.steps >= self._last_step or self._diverged or stalled

    def next_rows(self) -> list[int]:
        """The training examples of the next step."""
        return next(self._batches)

    def update(self, loss: float) -> None:
        """Take one step along the gradients at hand, whose loss was `loss`; then look, where a look is due.

        A loss that is not a number ends the run, whatever the gradients are.
        """
        self._losses.append(loss)
        self.steps += 1
        if not math.isfinite(loss):
            self._record(Evaluation(self.steps, loss, math.nan, math.nan))
            return
        self._optimiser.step(_rate(self.steps - 1, self.config.steps))
        if self.steps in self._stops:
            self._look()

    def finish(self) -> Run:
        """The run, at its best state; a pause gives the state it stopped in, and keeps in the store what goes on."""
        if self.config.pause and not self._diverged:
            self._keep()
            if self.steps not in self._stops:
                self._look()  # not kept: without the pause there would be none
        stays = self.config.pause and not self._diverged
        state, head, seen = (*self._state(), self._seen) if stays else self._best
        self.trainable.load(state)
        self.objective.load_head(head)
        return Run(
            config=self.config,
            status="diverged" if self._diverged else "finished",
            parameters=self.trainable.size,
            unit=self.trainable.rate_scale,
            steps=self.steps,
            seconds=self._seconds(),
            curve=tuple(self._curve),
            validation=seen or self._evaluated("validation"),
            held_out=self._evaluated("held_out") if self.config.score_held_out else None,
            state=state,
            head=head,
        )

    def _look(self) -> None:
        """Score the validation part, and keep the state if none before it scored as well."""
        self._seen = self._evaluated("validation")
        mean = sum(self._losses) / len(self._losses) if self._losses else math.nan
        look = Evaluation(self.steps, mean, self._seen.mean_loss, self._seen.accuracy)
        if math.isfinite(look.validation_loss) and all(
            look.validation_loss < earlier.validation_loss for earlier in self._curve
        ):
            self._best = (*self._state(), self._seen)
        self._losses = []
        self._record(look)

    def _record(self, look: Evaluation) -> None:
        self._log(look)
        self._diverged = not math.isfinite(look.validation_loss)
        if not self._diverged or not self._curve:
            self._curve.append(look)

    def _evaluated(self, part: str) -> Outcomes:
        return self.task.evaluate(part, self.objective, self.trainable.joined)

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        return self.trainable.state(), self.objective.head_state()

    def _seconds(self) -> float:
        return self._seconds_before + time.monotonic() - self._began

    def _keep(self) -> None:
        """Leave in the store what it takes to go on from here."""
        state, head = self._state()
        best_state, best_head, best_seen = self._best
        groups: dict[str, Mapping[str, Tensor]] = {
            "state": state,
            "head": head,
            "best": best_state,
            "best_head": best_head,
            "best_seen": {} if best_seen is None else vars(best_seen),
            "optimiser": self._optimiser.state(),
        }
        tensors = {f"{group}/{key}": value for group, part in groups.items() for key, value in part.items()}
        record = {
            "steps": self.steps,
            "seconds": self._seconds(),
            "losses": self._losses,
            "curve": [list(asdict(look).values()) for look in self._curve if look.step],
        }
        self._store.pause(self._whole, tensors, record)

    def _go_on(self) -> None:
        """Stand where an earlier pause left this run, if one did, and no later than this run ends."""
        kept = self._store.paused(self._whole)
        if kept is None or not self._own or kept[1]["steps"] > self._last_step:
            return
        tensors, record = kept
        earlier = [Evaluation(*look) for look in record["curve"]]
        if not self.config.pause and any(
            _has_stalled([*self._curve, *earlier[:count]], self.config.patience) for count in range(len(earlier) + 1)
        ):
            return  # it would have stopped early, before it paused
        parts: dict[str, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            group, _, key = name.partition("/")
            # Cloned: training goes on in place, and what is kept may be asked for again.
            parts.setdefault(group, {})[key] = tensor.clone()
        self.trainable.load(parts["state"])
        self.objective.load_head(parts.get("head", {}))
        self._optimiser.load(parts["optimiser"])
        start = min((look.validation_loss for look in self._curve), default=math.inf)
        if earlier and min(look.validation_loss for look in earlier) < start:
            seen = Outcomes(**parts["best_seen"]) if "best_seen" in parts else None
            self._best = (parts["best"], parts.get("best_head", {}), seen)
        for look in earlier:
            self._log(look)
        self._curve += earlier
        self._losses = list(record["losses"])
        self.steps = record["steps"]
        self._seconds_before = record["seconds"]

    @property
    def _whole(self) -> str:
        """The name of this run without pauses: what both sides of a pause agree on."""
        return self._store.whole_name(self.task.digest, self.config)


class _Adam:
    """Adam on two groups at rates of their own, clipped together, on a schedule that is told its place."""

    def __init__(self, own: list[nn.Parameter], rate: float, head: list[nn.Parameter], head_rate: float) -> None:
        self._tensors = [*own, *head]
        self._peaks = (rate, head_rate)
        self._adam = torch.optim.Adam([{"params": own, "lr": rate}, {"params": head, "lr": head_rate}])

    def step(self, share: float) -> None:
        """One step at that share of the rates; the gradients are used up."""
        for group, peak in zip(self._adam.param_groups, self._peaks, strict=True):
            group["lr"] = peak * share
        nn.utils.clip_grad_norm_(self._tensors, _CLIP)
        self._adam.step()
        self._adam.zero_grad()

    def state(self) -> dict[str, Tensor]:
        """The moments, by tensor and name."""
        states: dict[int, dict[str, Tensor]] = self._adam.state_dict()["state"]
        return {f"{index}.{name}": value for index, state in states.items() for name, value in state.items()}

    def load(self, kept: Mapping[str, Tensor]) -> None:
        """Put what `state` gave back."""
        states: dict[int, dict[str, Any]] = {}
        for key, value in kept.items():
            index, _, name = key.partition(".")
            states.setdefault(int(index), {})[name] = value
        self._adam.load_state_dict(self._adam.state_dict() | {"state": states})


def _rate(at: int, steps: int) -> float:
    """The share of the learning rate in force: a short rise, then a line down to zero."""
    rise = min(1.0, (at + 1) / max(1.0, _WARMUP * steps))
    return rise * max(0.0, 1.0 - at / steps)


def _has_stalled(curve: list[Evaluation], patience: int) -> bool:
    if not curve:
        return False
    best = min(range(len(curve)), key=lambda index: curve[index].validation_loss)
    return len(curve) - 1 - best >= patience
