"""The baselines: sizes that match, and lengths that are left out only where tokens do not bind."""

from dataclasses import replace

import pytest
import torch

from helpers.diagnosis_cases import experiment_of
from promptreach.diagnosis.experiment import Experiment
from promptreach.diagnosis.measures import baselines
from promptreach.training.methods.methods import METHODS
from promptreach.training.task.objective import Outcomes


def test_equal_rank_comes_closest_in_parameters() -> None:
    experiment = experiment_of(tokens=(2, 8))
    rank = baselines.equal_rank(experiment)
    assert rank >= 1
    with METHODS["lora"].attach(experiment.task.backbone, experiment.config("lora", rank=1), [[0]]) as one:
        wanted = 8 * experiment.task.backbone.hidden_size
        assert all(abs(rank * one.size - wanted) <= abs(other * one.size - wanted) for other in range(1, 20))


def with_scores(experiment: Experiment, wrong: int, saved: float) -> Experiment:
    """The outcomes on 400 rows replaced: the middle prompt errs on so many more than LoRA, and its loss lies
    so far below the shorter one's."""
    for name, entry in list(experiment.sweeps.items()):
        right = torch.ones(400)
        right[: wrong if name == "prompt 3 tokens" else 0] = 0.0
        loss = torch.full((400,), 1.0 - (saved if name == "prompt 3 tokens" else 0.0))
        outcomes = Outcomes(loss, torch.ones(400), right)
        best = replace(entry.best, held_out=outcomes, validation=outcomes, status="finished")
        experiment.sweeps[name] = replace(entry, best=best)
    return experiment


@pytest.mark.parametrize(
    ("wrong", "saved", "cannot"), [(0, 0.0, True), (0, 0.03, False), (60, 0.0, False), (0, -0.5, True)]
)
def test_longer_prompts_are_left_out_only_where_tokens_do_not_bind(wrong: int, saved: float, cannot: bool) -> None:
    experiment = experiment_of(tokens=(2, 3, 4))
    baselines.train_baselines(experiment)
    assert baselines.longer_cannot_help(with_scores(experiment, wrong, saved)) is cannot


def test_a_diverged_middle_length_leaves_nothing_out() -> None:
    experiment = experiment_of(tokens=(2, 3, 4))
    baselines.train_baselines(experiment)
    entry = with_scores(experiment, 0, 0.0).sweeps["prompt 3 tokens"]
    experiment.sweeps["prompt 3 tokens"] = replace(entry, best=replace(entry.best, status="diverged"))
    assert not baselines.longer_cannot_help(experiment)


@pytest.mark.parametrize("every_length", [True, False])
def test_what_is_left_out_is_said(every_length: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "longer_cannot_help", lambda experiment: True)
    experiment = experiment_of(tokens=(2, 3, 4), every_length=every_length)
    measured = baselines.measure(experiment)
    assert measured["lengths_left_out"] == ([] if every_length else [4])
    assert ("prompt 4 tokens" in measured["methods"]) is every_length
