"""Seeds: the winners are trained again, and what a seed is worth is the largest difference between two of them."""

from dataclasses import replace

import pytest
import torch

from helpers.diagnosis_cases import experiment_of
from promptreach.diagnosis.experiment import Experiment, Measured, Skipped
from promptreach.diagnosis.measures import seeds
from promptreach.diagnosis.steps import BARE_MODEL, DATA, SEEDS, TRAINING


@pytest.fixture(scope="module")
def trained() -> Experiment:
    experiment = experiment_of(seeds=3)
    for step in (DATA, BARE_MODEL, TRAINING):
        step.take(experiment)
    return experiment


def test_one_seed_is_no_comparison() -> None:
    assert isinstance(seeds.measure(experiment_of()), Skipped)


def test_every_winner_has_a_score_for_each_seed_and_their_spread_is_what_a_seed_is_worth(trained: Experiment) -> None:
    found = SEEDS.take(trained)
    assert isinstance(found, Measured)
    numbers = found.numbers
    assert numbers.seeds == (0, 1, 2)
    assert any(name.startswith("lora") for name in numbers.scores)
    assert any(name.startswith(("prompt", "prefix")) for name in numbers.scores)
    for name, scores in numbers.scores.items():
        assert len(scores) == 3
        assert scores[0] == pytest.approx(trained.runs[name].held_out.accuracy)  # type: ignore[union-attr]
        assert numbers.worth >= max(scores) - min(scores)
    assert found.sample.endswith("3 seeds")


def test_another_seed_is_the_same_run_from_another_start(trained: Experiment) -> None:
    config = trained.best("prompt").config  # type: ignore[union-attr]
    again, other = trained.executor_of(trained.task).run([config, replace(config, seed=1)])
    assert torch.equal(again.state["embeddings"], trained.runs[config.label].state["embeddings"])
    assert not torch.equal(again.state["embeddings"], other.state["embeddings"])
