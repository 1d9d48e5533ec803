"""The user's own training: a classifier that collapsed is seen, and one that looks at its rows is not blamed."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from helpers.diagnosis_cases import experiment_of
from promptreach.diagnosis.experiment import Experiment, UserRun
from promptreach.diagnosis.measures import pooling
from promptreach.diagnosis.measures.user_run import collapse


def answering(experiment: Experiment, answers: Tensor | None) -> Experiment:
    """The experiment with a user whose classifier gives these answers."""
    outcomes = experiment.task.evaluate("held_out", experiment.task.objective())
    return replace(experiment, user_run=UserRun(outcomes, None, answers))


@pytest.mark.parametrize("favourite", [0, 1])
def test_one_class_for_every_row_is_a_collapse(favourite: int) -> None:
    experiment = experiment_of()
    found = collapse(answering(experiment, torch.full((len(experiment.task.held_out),), favourite)))
    assert found["collapsed"]
    assert (found["class"], found["share"]) == (f"class {favourite}", 1.0)
    assert found["classes_never_given"] == 1


def test_a_probe_that_looks_is_no_collapse() -> None:
    experiment = experiment_of()
    assert not collapse(answering(experiment, pooling.read(experiment, None, "mean")[2]))["collapsed"]


def test_without_a_users_classifier_nothing_collapses() -> None:
    experiment = experiment_of()
    assert "Neither" in collapse(experiment).reason
    assert "Only a classifier" in collapse(answering(experiment, None)).reason
