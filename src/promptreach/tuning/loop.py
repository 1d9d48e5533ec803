"""The training loop: one method, one setting, from its start to its best state."""

import math
import time
from collections.abc import Iterator

import torch
from torch import nn

from promptreach.progress import Step
from promptreach.tuning.encoding import training_batches
from promptreach.tuning.methods import Trainable, method_named
from promptreach.tuning.objective import Objective, Outcomes
from promptreach.tuning.runs import Evaluation, Run, RunConfig, RunStore
from promptreach.tuning.task import Task

_WARMUP = 0.1
_CLIP = 1.0


def train(task: Task, config: RunConfig, store: RunStore, step: Step) -> Run:
    """The run of `config` on `task`: taken from the store if it finished there before, trained otherwise.

    The same task and settings give the same run on the same machine. A loss that is not a number ends the run with
    status ``diverged`` and the best state before that; it is a result, not an error, because a learning rate that is
    too large is worth knowing.
    """
    name = store.name(task.digest, config)
    known = store.get(name)
    if known is not None:
        step(config.steps, "done before")
        return known
    began = time.monotonic()
    log = store.logger(name)
    objective = task.objective()
    spec = method_named(config.method)
    with spec.attach(task.backbone, config.shape, task.encoded["train"].sequences) as trainable:
        best, best_head = trainable.state(), objective.head_state()
        best_seen: Outcomes | None = None
        curve: list[Evaluation] = []
        steps = 0
        diverged = False
        for evaluation, seen in _evaluations(task, config, trainable, objective, step):
            log(evaluation)
            steps = evaluation.step
            diverged = not math.isfinite(evaluation.validation_loss)
            if diverged and curve:
                break
            if not diverged and all(evaluation.validation_loss < earlier.validation_loss for earlier in curve):
                best, best_head, best_seen = trainable.state(), objective.head_state(), seen
            curve.append(evaluation)
            if diverged or _has_stalled(curve, config.patience):
                break
        step(config.steps - steps, "")
        trainable.load(best)
        objective.load_head(best_head)
        run = Run(
            config=config,
            status="diverged" if diverged else "finished",
            parameters=trainable.size,
            unit=trainable.unit,
            steps=steps,
            seconds=time.monotonic() - began,
            curve=tuple(curve),
            validation=best_seen or task.evaluate("validation", objective, trainable.joined),
            held_out=task.evaluate("held_out", objective, trainable.joined) if config.score_held_out else None,
            state=best,
            head=best_head,
        )
    store.put(name, run)
    return run


def _evaluations(
    task: Task, config: RunConfig, trainable: Trainable, objective: Objective, step: Step
) -> Iterator[tuple[Evaluation, Outcomes | None]]:
    """Train, and stop to look at the validation part before the first step and then at equal distances.

    A trial does not look before the first step: it ranks learning rates by where they lead, and the start they share
    would hide how far a bad one leads away.
    """

    def look(at: int, losses: list[float]) -> tuple[Evaluation, Outcomes]:
        seen = task.evaluate("validation", objective, trainable.joined)
        mean = sum(losses) / len(losses) if losses else math.nan
        return Evaluation(at, mean, seen.mean_loss, seen.accuracy), seen

    if config.score_held_out:
        yield look(0, [])
    own = list(trainable.parameters.values())
    if not own or config.steps == 0:
        return
    head = objective.head_parameters()
    optimiser = torch.optim.Adam(
        [{"params": own, "lr": config.learning_rate}, {"params": head, "lr": config.head_learning_rate}]
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda at: _rate(at, config.steps))
    data = task.encoded["train"]
    batches = training_batches(
        [len(ids) for ids in data.sequences], config.batch_size, torch.Generator().manual_seed(config.seed)
    )
    stops = {max(1, round(config.steps * (i + 1) / config.evaluations)) for i in range(config.evaluations)}
    losses: list[float] = []
    for at in range(1, config.steps + 1):
        rows = next(batches)
        batch = task.backbone.batch([data.sequences[row] for row in rows])
        hidden = task.backbone.hidden(batch, trainable.joined)
        outcomes = objective.outcomes(task.backbone, hidden, batch, data, rows)
        loss = outcomes.loss.sum() / outcomes.answers.sum()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_([*own, *head], _CLIP)
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
        step(note=f"loss {losses[-1]:.3f}")
        if not math.isfinite(losses[-1]):
            yield Evaluation(at, losses[-1], math.nan, math.nan), None
            return
        if at in stops:
            yield look(at, losses)
            losses = []


def _rate(at: int, steps: int) -> float:
    """The share of the learning rate in force: a short rise, then a line down to zero."""
    rise = min(1.0, (at + 1) / max(1.0, _WARMUP * steps))
    return rise * max(0.0, 1.0 - at / steps)


def _has_stalled(curve: list[Evaluation], patience: int) -> bool:
    best = min(range(len(curve)), key=lambda index: curve[index].validation_loss)
    return len(curve) - 1 - best >= patience
