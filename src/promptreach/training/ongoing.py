"""One training run under way, which can stop after any step and go on later as if nothing had happened.

It owns all that decides its path: its tensors, its head, its optimiser, its rate's schedule and its order of
the examples. The forward pass alone may be shared with other runs (see `side_by_side`).
"""

import math
import time
from dataclasses import asdict
from functools import partial
from itertools import islice

import torch
from torch import Tensor

from promptreach.training.methods.methods import Trainable
from promptreach.training.runs import Evaluation, Run, RunConfig, RunStore
from promptreach.training.task.encoding import training_batches
from promptreach.training.task.objective import Outcomes
from promptreach.training.task.task import Task
from promptreach.training.trainer import Trainer, warmed_up


class OngoingRun(Trainer):
    """A run of `config` on `task`, standing at its start or where an earlier pause left it.

    Args:
        task: what is trained on.
        config: the settings.
        trainable: the method's tensors, attached to the task's backbone for as long as this run goes on.
        store: takes the log, and holds what an earlier pause kept.

    Attributes:
        task, config: as given.
        objective: with a head of its own.
    """

    def __init__(self, task: Task, config: RunConfig, trainable: Trainable, store: RunStore) -> None:
        self.task = task
        self.config = config
        self.objective = task.objective()
        own = list(trainable.parameters.values())
        head = self.objective.head_parameters()
        groups = [(own, config.learning_rate), (head, config.head_learning_rate)]
        super().__init__(trainable, groups, share=partial(warmed_up, steps=config.steps), clip=1.0)
        self._store = store
        self._began = time.monotonic()
        self._losses: list[float] = []
        self._curve: list[Evaluation] = []
        self._seen: Outcomes | None = None
        self._best: tuple[dict[str, Tensor], dict[str, Tensor], Outcomes | None] = (*self._state(), None)
        self._last_step = config.last_step if own else 0
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
        return self.steps >= self._last_step or self.diverged or stalled

    def next_rows(self) -> list[int]:
        """The training examples of the next step."""
        return next(self._batches)

    def update(self, loss: float) -> None:
        """Take one step along the gradients at hand, whose loss was `loss`; then look, where a look is due.

        A loss that is not a number ends the run, whatever the gradients are.
        """
        self._losses.append(loss)
        self.descend(loss)
        if self.diverged:
            self._record(Evaluation(self.steps, loss, math.nan, math.nan))
        elif self.steps in self._stops:
            self._look()

    def finish(self) -> Run:
        """The run, at its best state; a pause gives the state it stopped in, and keeps in the store what goes on."""
        if self.config.pause and not self.diverged:
            self._keep()
            if self.steps not in self._stops:
                self._look()  # not kept: without the pause there would be none
        stays = self.config.pause and not self.diverged
        state, head, seen = (*self._state(), self._seen) if stays else self._best
        self.trainable.load(state)
        self.objective.load_head(head)
        return Run(
            config=self.config,
            status="diverged" if self.diverged else "finished",
            parameters=self.trainable.size,
            unit=self.trainable.rate_scale,
            steps=self.steps,
            seconds=time.monotonic() - self._began,
            curve=tuple(self._curve),
            validation=self._answered("validation", seen or self._evaluated("validation")),
            held_out=self._answered("held_out", self._evaluated("held_out")) if self.config.score_held_out else None,
            state=state,
            head=head,
        )

    def _look(self) -> None:
        """Score the validation part, and keep the state if none before it scored as well."""
        if self.steps:
            self._seen = self._evaluated("validation")
        else:  # the start, which runs at other rates share
            self._seen = self.task.looked_once(self.config.start_name, lambda: self._evaluated("validation"))
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
        self.diverged = not math.isfinite(look.validation_loss)
        if not self.diverged or not self._curve:
            self._curve.append(look)

    def _evaluated(self, part: str) -> Outcomes:
        if self.config.method == "head":
            return self.task.evaluate_bare(part, self.objective)
        return self.task.evaluate(part, self.objective, self.trainable.joined)

    def _answered(self, part: str, outcomes: Outcomes) -> Outcomes:
        return self.task.answered(part, outcomes, self.trainable.joined)

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        return self.trainable.state(), self.objective.head_state()

    def _keep(self) -> None:
        """Leave in the store what it takes to go on from here."""
        state, head = self._state()
        best_state, best_head, best_seen = self._best
        groups = {
            "state": state,
            "head": head,
            "best": best_state,
            "best_head": best_head,
            "best_seen": {} if best_seen is None else best_seen.tensors,
            "optimiser": self.moments(),
        }
        record = {
            "steps": self.steps,
            "seconds": time.monotonic() - self._began,
            "losses": self._losses,
            "curve": [list(asdict(look).values()) for look in self._curve if look.step],
        }
        self._store.pause(self._whole, groups, record)

    def _go_on(self) -> None:
        """Stand where an earlier pause left this run, if one did, and no later than this run ends."""
        kept = self._store.paused(self._whole)
        if kept is None or not self._last_step or kept[1]["steps"] > self._last_step:
            return
        groups, record = kept
        earlier = [Evaluation(*look) for look in record["curve"]]
        if not self.config.pause and any(
            _has_stalled([*self._curve, *earlier[:count]], self.config.patience) for count in range(len(earlier) + 1)
        ):
            return  # it would have stopped early, before it paused
        self.trainable.load(groups["state"])
        self.objective.load_head(dict(groups.get("head", {})))
        self.resume(record["steps"], groups["optimiser"])
        start = min((look.validation_loss for look in self._curve), default=math.inf)
        if earlier and min(look.validation_loss for look in earlier) < start:
            seen = Outcomes(**groups["best_seen"]) if groups.get("best_seen") else None
            self._best = (dict(groups["best"]), dict(groups.get("best_head", {})), seen)
        for look in earlier:
            self._log(look)
        self._curve += earlier
        self._losses = list(record["losses"])
        self._began -= record["seconds"]

    @property
    def _whole(self) -> str:
        """The name of this run without pauses: what both sides of a pause agree on."""
        return self._store.whole_name(self.task.digest, self.config)


def _has_stalled(curve: list[Evaluation], patience: int) -> bool:
    if not curve:
        return False
    best = min(range(len(curve)), key=lambda index: curve[index].validation_loss)
    return len(curve) - 1 - best >= patience
