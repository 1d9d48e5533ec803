"""Tiny tasks with a planted prompt, and experiments on them."""

import random
from collections.abc import Sequence
from typing import Any

import torch

from helpers.models import WORDS, tiny_model
from helpers.tasks import completer, completions, labelled
from promptreach.backbone import Prepended
from promptreach.data import LabelledTexts, TaskData
from promptreach.diagnosis.experiment import Experiment
from promptreach.diagnosis.measures.planted import least_foreseen
from promptreach.hf import OpenModel
from promptreach.progress import Progress
from promptreach.training.engines.executor import Executor, InProcess
from promptreach.training.runs import RunStore
from promptreach.training.task.readout import pool
from promptreach.training.task.task import Task, prepare
from promptreach.tuning import Limits

SMALL = Limits(train=48, validation=16, held_out=24, max_length=32)


def here(task: Task) -> Executor:
    return InProcess(task, RunStore(None), Progress(quiet=True))


def experiment_of(
    family: str = "bert", kind: str = "classification", parts: Limits = SMALL, **changes: Any
) -> Experiment:
    """An experiment on a small task with prompts of 2 and 3 tokens and 4 steps."""
    model = tiny_model(family) if kind == "classification" else completer(family)
    data: TaskData = labelled(100) if kind == "classification" else completions(100)
    task = prepare(model, data, limits=parts, longest_prompt=8)
    given: dict[str, Any] = {"tokens": (2, 3), "steps": 4, "batch_size": 16, "rank": 1, **changes}
    return Experiment(data, task, here, **given)


def random_texts(count: int, seed: int = 0) -> list[str]:
    draw = random.Random(seed)
    return list(dict.fromkeys(" ".join(draw.choices(WORDS, k=draw.randint(4, 8))) for _ in range(count)))


def planted_rows(model: OpenModel, texts: Sequence[str], tokens: int = 4, seed: int = 0) -> LabelledTexts:
    """Texts in two classes, the sides of what a planted prompt of `tokens` vocabulary rows does to the mean state."""
    rows = torch.randperm(len(model.vocabulary), generator=torch.Generator().manual_seed(seed))[:tokens]
    batches = [model.batch(model.tokenize(texts[at : at + 64])) for at in range(0, len(texts), 64)]

    def states(joined: Prepended) -> torch.Tensor:
        with torch.no_grad():
            return torch.cat([pool(model.hidden(batch, joined), batch.mask, "mean") for batch in batches]).double()

    bare, moved = states(Prepended()), states(Prepended(prompt=model.vocabulary[rows]))
    margin = moved @ least_foreseen(bare, moved)
    border = margin.median()
    clear = ((margin - border).abs() >= (margin - border).abs().quantile(0.25)).tolist()
    labels = (margin > border).long().tolist()
    kept = [index for index, is_clear in enumerate(clear) if is_clear]
    return LabelledTexts(tuple(texts[i] for i in kept), tuple(labels[i] for i in kept), ("left", "right"))
