"""An executor without training: its runs reach what a function says."""

import math
from collections.abc import Callable, Sequence

import torch

from helpers.tasks import config_of, task_of
from promptreach.training.runs import Evaluation, Run, RunConfig
from promptreach.training.task.objective import Outcomes
from promptreach.training.task.task import Task

CONFIG = config_of("prompt", steps=80, patience=9)


def outcomes(*losses: float) -> Outcomes:
    """Of rows with these losses."""
    one = torch.ones(len(losses))
    return Outcomes(torch.tensor(losses), one, one)


class Scripted:
    """An executor whose runs reach what a function of rate and step says; NaN diverges. It notes what it was asked."""

    task: Task

    def __init__(self, loss: Callable[[float, int], float]) -> None:
        self.task = task_of("gpt2")
        self.loss = loss
        self.asked: list[list[tuple[float, int]]] = []

    def run(self, configs: Sequence[RunConfig]) -> list[Run]:
        self.asked.append([(config.learning_rate, config.pause) for config in configs])
        return [self._one(config) for config in configs]

    def loss_of(self, config: RunConfig) -> float:
        return self.loss(config.learning_rate, config.last_step)

    def _one(self, config: RunConfig) -> Run:
        loss = self.loss_of(config)
        diverged = math.isnan(loss)
        # What a diverged run falls back to is its start, here better than anything that is reached.
        seen = outcomes(0.0 if diverged else loss)
        curve = (Evaluation(config.last_step, loss, loss, 0.5),)
        status = "diverged" if diverged else "finished"
        return Run(config, status, 1, 1.0, config.last_step, 0.0, curve, seen, None, {}, {})
