"""The planted prompt: what is planted exists, and only what a prompt is needed for is planted."""

from dataclasses import replace

import pytest
import torch

from helpers.diagnosis_cases import experiment_of
from promptreach.backbone import Prepended
from promptreach.diagnosis.experiment import Experiment
from promptreach.diagnosis.measures import baselines, planted
from promptreach.training.methods.initial import initial_prompt
from promptreach.training.runs import RunConfig
from promptreach.training.task.objective import Completion
from promptreach.training.task.task import features


def plant(experiment: Experiment, tokens: int = 2) -> planted.Planted:
    found = planted.plant(experiment, experiment.config("prompt", tokens=tokens))
    assert isinstance(found, planted.Planted)
    return found


@pytest.mark.parametrize("kind", ["classification", "completion"])
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_the_planted_prompt_writes_the_planted_continuations(family: str, kind: str) -> None:
    """For a causal model, whether the user's own inputs are to be continued or classified."""
    found = plant(experiment_of(family, kind))
    for part in ("train", "validation", "held_out"):
        outcomes = found.task.evaluate(part, Completion(), Prepended(prompt=found.prompt))
        assert outcomes.accuracy == 1.0
        assert found.task.evaluate(part, Completion()).mean_loss > outcomes.mean_loss


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_planted_classes_are_linear_behind_the_planted_prompt_and_not_without(family: str) -> None:
    """Every training row: the direction that labelled them separates them."""
    found = plant(experiment_of(family))
    place, labels = found.task.pooling, found.task.encoded["train"].labels
    assert place is not None
    assert labels is not None
    moved = features(found.task, "train", [place], Prepended(prompt=found.prompt))[place].double()
    inputs = torch.cat([moved, torch.ones(len(moved), 1, dtype=torch.float64)], dim=1)
    fitted = torch.linalg.lstsq(inputs, labels.double()[:, None] * 2 - 1, driver="gelsd").solution
    assert ((inputs @ fitted > 0)[:, 0].long() == labels).double().mean() > 0.9
    assert found.task.probes[place].accuracy <= planted.MOST_FOR_THE_HEAD
    assert 0.4 <= labels.double().mean() <= 0.6


def test_planted_rows_are_vocabulary_rows_that_the_student_does_not_start_from() -> None:
    experiment = experiment_of()
    config = experiment.config("prompt", tokens=3)
    rows = planted.fresh_prompt(experiment, config)
    sequences = experiment.task.encoded["train"].sequences
    start = initial_prompt(experiment.task.backbone, 3, config.init, sequences, config.seed).embeddings
    known = {tuple(row) for row in experiment.task.backbone.vocabulary.tolist()}
    planted_ones, taken = ({tuple(row) for row in some.tolist()} for some in (rows, start))
    assert planted_ones <= known
    assert not planted_ones & taken


def test_what_is_foreseen_by_the_bare_model_is_not_planted() -> None:
    """Of two directions, one a copy of the bare features and one new, the new one is chosen."""
    generator = torch.Generator().manual_seed(0)
    bare = torch.randn(400, 7, generator=generator, dtype=torch.float64)
    new = torch.randn(400, 1, generator=generator, dtype=torch.float64)
    direction = planted.least_foreseen(bare, torch.cat([3 * bare[:, :6], new], dim=1))
    assert abs(direction[-1]) > 3 * direction[:-1].abs().max()


def test_a_prompt_that_changes_nothing_gives_way_to_another_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = experiment_of("gpt2", "completion")
    config = experiment.config("prompt", tokens=2)
    tried: list[torch.Tensor] = []
    plant_one = planted.continuations

    def third_time(experiment: Experiment, config: RunConfig, prompt: torch.Tensor) -> planted.Planted | None:
        tried.append(prompt)
        return plant_one(experiment, config, prompt) if len(tried) == 3 else None

    with monkeypatch.context() as patch:
        patch.setattr(planted, "continuations", third_time)
        assert torch.equal(plant(experiment).prompt, tried[2])
    assert len({tuple(row) for prompt in tried for row in prompt.tolist()}) == 6
    with monkeypatch.context() as patch:
        patch.setattr(planted, "continuations", lambda *_: None)
        assert "None of 4 planted prompts" in str(planted.plant(experiment, config))


def test_planted_answers_that_need_no_prompt_measure_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """With few rows the head may be right on all that are judged, although it erred in its folds."""
    experiment = experiment_of()
    baselines.train_baselines(experiment)
    whole = plant(experiment)
    head = experiment.executor_of(whole.task).run([experiment.config("head")])[0]
    assert head.held_out is not None
    rows = whole.task.encoded["held_out"]
    assert rows.labels is not None
    right = head.held_out.right.nonzero().flatten()
    easy = replace(rows.take(right.tolist()), targets=rows.labels[right])
    task = replace(whole.task, encoded={**whole.task.encoded, "held_out": easy})
    with monkeypatch.context() as patch:
        patch.setattr(planted, "plant", lambda *_: planted.Planted(task, whole.prompt))
        assert "Without a prompt" in planted.find_planted(experiment).reason
        patch.setattr(planted, "plant", lambda *_: whole)
        assert not planted.find_planted(experiment).reason


def test_without_a_trained_prompt_nothing_is_planted() -> None:
    assert "No prompt finished" in planted.find_planted(experiment_of()).reason
