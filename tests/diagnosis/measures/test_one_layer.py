"""One layer: the oracle is asked about rows that share a query, and its floor is a share of what LoRA does."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from helpers.diagnosis_cases import SMALL, experiment_of, here
from helpers.models import tiny_model
from helpers.tasks import completions
from promptreach.diagnosis.experiment import Experiment, Measured, Skipped
from promptreach.diagnosis.measures import one_layer
from promptreach.training.search.sweep import sweep
from promptreach.training.task.task import prepare


def trained(monkeypatch: pytest.MonkeyPatch, **limits: Any) -> Experiment:
    """Completions on a model of one layer, with a LoRA update that does something; the verdict hangs on it."""
    monkeypatch.setattr(one_layer, "depends_on", lambda name, found: name == "one_layer")
    model, data = tiny_model("gpt2", num_hidden_layers=1), completions(100)
    task = prepare(model, data, limits=replace(SMALL, **limits), longest_prompt=8)
    experiment = Experiment(data, task, here, tokens=(2, 3), steps=8, batch_size=16, rank=2)
    entry = sweep(here(task), experiment.config("lora", rank=2), rates=[0.01])
    draw = torch.Generator().manual_seed(0)
    state = {name: 0.3 * torch.randn(part.shape, generator=draw) for name, part in entry.best.state.items()}
    experiment.sweeps["lora rank 2"] = replace(entry, best=replace(entry.best, state=state))
    return experiment


def test_several_layers_are_not_asked_about() -> None:
    found = one_layer.measure(experiment_of("gpt2", "completion"))
    assert isinstance(found, Skipped)
    assert "several layers" in found.reason


def test_the_floor_is_a_part_of_what_lora_does(monkeypatch: pytest.MonkeyPatch) -> None:
    found = one_layer.measure(trained(monkeypatch, held_out=40))
    assert isinstance(found, Measured)
    numbers = found.numbers
    assert 0 < numbers.floor <= numbers.change
    assert numbers.share == pytest.approx(numbers.floor / numbers.change)
    assert 2 * numbers.queries <= numbers.rows <= 40


def test_what_the_oracle_is_asked_stands_before_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = trained(monkeypatch)
    held_out = experiment.task.encoded["held_out"]
    assert held_out.answer_lengths is not None
    for row, ids, answer in zip(
        one_layer.read_at(experiment), held_out.sequences, held_out.answer_lengths, strict=True
    ):
        assert list(row) == list(ids[: len(ids) - answer])
        assert answer > 0


def test_rows_without_a_common_query_cannot_be_asked_about(monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = trained(monkeypatch)
    monkeypatch.setattr(one_layer, "read_at", lambda experiment: [(1, 2), (1, 3), (4, 1, 2)])
    found = one_layer.measure(experiment)
    assert isinstance(found, Skipped)
    assert "share a query" in found.reason
