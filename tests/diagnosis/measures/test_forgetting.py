"""Forgetting on plain text: what changes nothing forgets nothing, and a rise is that of the language model's loss."""

from dataclasses import replace

import pytest
import torch

from helpers.diagnosis_cases import experiment_of
from helpers.tolerances import assert_close
from promptreach.backbone import Prepended
from promptreach.diagnosis.experiment import Experiment, UserRun
from promptreach.diagnosis.measures import forgetting
from promptreach.prompt import LowRankUpdate, SoftPrompt
from promptreach.training.methods.methods import METHODS


def language_loss(experiment: Experiment, prompt: SoftPrompt | None) -> float:
    """Nats per token of the held-out inputs as plain text, one text after another."""
    backbone, losses = experiment.task.backbone, []
    for ids in backbone.tokenize(experiment.task.held_out.inputs):
        joined = Prepended(prompt=None if prompt is None else prompt.embeddings)
        with torch.no_grad():
            logits = backbone.vocabulary_logits(backbone.hidden(backbone.batch([ids]), joined))[0]
        losses += torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(ids[1:]), reduction="none").tolist()
    return sum(losses) / len(losses)


def test_an_update_of_zero_forgets_nothing_and_a_prompt_does() -> None:
    experiment = experiment_of("llama")
    config = experiment.config("lora", rank=1)
    with METHODS["lora"].attach(experiment.task.backbone, config, [[0]]) as nothing:
        update = METHODS["lora"].adapter(nothing.state(), config)
    assert isinstance(update, LowRankUpdate)
    prompt = SoftPrompt(10 * torch.randn(2, 32, generator=torch.Generator().manual_seed(0)))
    outcomes = experiment.task.evaluate("held_out", experiment.task.objective())
    rise = {}
    for name, adapter in {"nothing": update, "loud": prompt}.items():
        rise[name] = forgetting.measure(replace(experiment, user_run=UserRun(outcomes, adapter, None)))["rise"]["yours"]
    assert rise["nothing"]["gain"] == pytest.approx(0.0, abs=1e-6)
    expected = language_loss(experiment, prompt) - language_loss(experiment, None)
    assert_close(torch.tensor(rise["loud"]["gain"]), torch.tensor(expected), "language loss")
    given = replace(experiment, plain_text=("the cat sat", "a dog ran on"), user_adapter=prompt)
    assert forgetting.measure(given).sample == "2 given texts as plain text"


def test_forgetting_needs_a_language_model_and_an_adapter() -> None:
    assert "encoder" in forgetting.measure(experiment_of("bert", user_adapter=SoftPrompt(torch.ones(1, 32)))).reason
    assert "Nothing was trained" in forgetting.measure(experiment_of("llama")).reason
