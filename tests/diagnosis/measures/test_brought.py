"""The user's adapter itself: one that changes nothing is seen, and how its outputs were matched."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from helpers.diagnosis_cases import experiment_of
from promptreach.diagnosis.experiment import Experiment, Measured, Skipped, UserRun
from promptreach.diagnosis.measures.brought import measure
from promptreach.hf import OpenModel
from promptreach.prompt import LowRankUpdate, Prefix, SoftPrompt
from promptreach.training.task.objective import Outcomes

NONE = Outcomes(*(torch.ones(2) for _ in range(3)))


def lora(experiment: Experiment, scale: float) -> LowRankUpdate:
    backbone = experiment.task.backbone
    assert isinstance(backbone, OpenModel)
    with backbone.low_rank(2, 4.0, 0) as update:
        state = update.state()
    return LowRankUpdate(2, 4.0, {key: part + scale * ("lora_B" in key) for key, part in state.items()})


def measured(experiment: Experiment) -> Any:
    found = measure(experiment)
    assert isinstance(found, Measured)
    return found.numbers


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama"])
@pytest.mark.parametrize(("scale", "unchanged"), [(0.0, True), (0.1, False)])
def test_updates_that_are_zero_change_nothing(family: str, scale: float, unchanged: bool) -> None:
    experiment = experiment_of(family)
    experiment.user_adapter = lora(experiment, scale)
    numbers = measured(experiment)
    assert numbers.unchanged is unchanged
    assert numbers.updates > 0
    assert numbers.zero_updates == (numbers.updates if unchanged else 0)


def test_a_prompt_and_a_prefix_change_something() -> None:
    for adapter in (SoftPrompt(torch.randn(2, 32)), Prefix(*torch.randn(2, 2, 4, 2, 8))):
        experiment = experiment_of("bert")
        experiment.user_adapter = adapter
        numbers = measured(experiment)
        assert not numbers.unchanged
        assert numbers.updates == 0


@pytest.mark.parametrize(
    ("outputs", "count", "numbering", "extra", "missing"),
    [
        ((0, 1), 2, {}, 0, 0),
        ((1, 0), 2, {"output 1": "class 0", "output 0": "class 1"}, 0, 0),
        ((2, 0), 4, {"output 2": "class 0", "output 0": "class 1"}, 2, 0),
        (None, 1, {}, 0, 1),
        (None, 0, {}, 0, 0),
    ],
)
def test_the_numbering_is_told(outputs: Any, count: int, numbering: Any, extra: int, missing: int) -> None:
    experiment = experiment_of("bert")
    experiment.user_adapter = SoftPrompt(torch.randn(2, 32))
    experiment.user_run = UserRun(NONE, experiment.user_adapter, None, outputs=outputs, num_outputs=count)
    numbers = measured(experiment)
    assert (numbers.numbering, numbers.extra_outputs, numbers.missing_outputs) == (numbering, extra, missing)


def test_the_folders_facts_come_along() -> None:
    experiment = experiment_of("bert")
    experiment.user_adapter = SoftPrompt(torch.randn(2, 32))
    experiment = replace(experiment, user_base="other", user_tokens=("<q>",))
    numbers = measured(experiment)
    assert (numbers.other_base, numbers.added_tokens) == ("other", ("<q>",))


def test_nothing_brought() -> None:
    assert isinstance(measure(experiment_of("bert")), Skipped)
