"""The recipe says all that carries a run's score."""

import pytest

from helpers.diagnosis_cases import experiment_of
from promptreach.training.recipe import recipe
from promptreach.training.search.sweep import sweep


@pytest.mark.parametrize("method", ["prompt", "prefix", "lora"])
@pytest.mark.parametrize("kind", ["classification", "completion"])
def test_everything_is_said(method: str, kind: str) -> None:
    experiment = experiment_of("gpt2", kind)
    config = experiment.config(method, tokens=2 * (method != "lora"), rank=int(method == "lora"))
    run = sweep(experiment.executor_of(experiment.task), config, rates=[0.012]).best
    text = recipe(run, experiment.task, 24)
    for part in (
        "AdamW",
        f"{run.steps} steps of 16 rows",
        f"step {run.best_step}",
        "first 10%",
        "0.012",
        "clipped to norm 1",
    ):
        assert part in text
    assert "cut at 24 tokens" in text
    assert "It starts from" in text
    assert ("alpha is 2" in text) is (method == "lora")
    assert ("The head reads" in text) is (kind == "classification")
    assert ("at rate 0.001" in text) is (kind == "classification")


def test_the_controls_recipe() -> None:
    for kind, said in (("classification", "ridge penalty"), ("completion", "Nothing is trained")):
        experiment = experiment_of("gpt2", kind)
        run = sweep(experiment.executor_of(experiment.task), experiment.config("head"), rates=[0.0]).best
        assert said in recipe(run, experiment.task, 24)
