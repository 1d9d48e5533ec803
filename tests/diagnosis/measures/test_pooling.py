"""The places where a head may read: each is judged through a head fitted there, of the task's own kind."""

from dataclasses import replace

import pytest
import torch

from helpers.diagnosis_cases import SMALL, experiment_of, planted_rows, random_texts
from helpers.tasks import model_of
from promptreach.backbone import Prepended
from promptreach.diagnosis.experiment import UserRun
from promptreach.diagnosis.measures import pooling
from promptreach.diagnosis.measures.memorise import prepare_same_rows
from promptreach.diagnosis.numbers import Goal
from promptreach.diagnosis.rules.measurements import POOLINGS_IN_WORDS
from promptreach.prompt import SoftPrompt
from promptreach.training.task.limits import Limits
from promptreach.training.task.readout import PENALTIES, POOLINGS
from promptreach.training.task.task import prepare


def test_the_read_out_of_an_adapter_is_judged_through_a_head_fitted_to_it() -> None:
    """Behind a prompt that decides the classes, the mean tells them and the bare model does not."""
    model = model_of("bert")
    data = planted_rows(model, random_texts(600))
    generator = torch.Generator().manual_seed(0)
    rows = torch.randperm(len(model.vocabulary), generator=generator)[:4]
    task = prepare(model, data, limits=Limits(300, 60, 90, 32), longest_prompt=8, pooling="mean")
    mine = SoftPrompt(model.vocabulary[rows])
    experiment = replace(experiment_of(), data=data, task=task, user_adapter=mine, user_pooling="first")
    user = UserRun(*pooling.read(experiment, experiment.user_adapter, "first"))
    found = pooling.measure(replace(experiment, user_run=user))
    assert found["adapter"]["mean"] > found["bare"]["mean"] + 0.2
    assert found["worth"]["gain"] == pytest.approx(found["adapter"]["mean"] - found["adapter"]["first"])


@pytest.mark.parametrize("goal", ["generalise", "memorise"])
def test_the_bare_model_is_read_through_the_probe_that_training_starts_from(goal: Goal) -> None:
    """And through one of the same kind at every other place."""
    experiment = experiment_of(goal=goal)
    if goal == "memorise":
        backbone = experiment.task.backbone
        experiment.task = prepare_same_rows(backbone, experiment.data, limits=SMALL, seed=0, longest_prompt=8)
    task = experiment.task
    assert task.pooling is not None
    control = task.evaluate("held_out", task.objective())
    assert torch.equal(pooling.read(experiment, None, task.pooling)[0].loss, control.loss)
    assert pooling.measure(experiment)["bare"][task.pooling] == control.accuracy
    allowed = (1e-4,) if goal == "memorise" else PENALTIES
    prompt = Prepended(prompt=task.backbone.vocabulary[:2])
    for place in POOLINGS["encoder"]:
        for joined in (None, Prepended(), prompt):
            assert pooling.probe_at(task, place, experiment.seed, joined).penalty in allowed


def test_every_place_has_words() -> None:
    assert {place for places in POOLINGS.values() for place in places} <= set(POOLINGS_IN_WORDS)
