"""Times and answers of deployment options: a precomputed prompt against the prompt, and a model left as it was."""

import pytest
import torch

from helpers.audit_cases import all_trained, random_adapter
from promptreach.audit.checks import inference_cost
from promptreach.audit.cost.times import answers, difference, median_seconds
from promptreach.audit.cost.work import BARE, DeploymentOption
from promptreach.hf import precompute


def test_the_keys_of_another_prompt_are_seen() -> None:
    context = all_trained("llama")
    mine, other = random_adapter("llama", "prompt", 3), random_adapter("llama", "prompt", 4)
    batch = context.model.batch(inference_cost.typical(context))
    wrong = DeploymentOption("wrong", mine, precompute(context.model, other))
    gap, _ = difference(answers(context.model, wrong, batch), answers(context.model, DeploymentOption("", mine), batch))
    assert gap > 1e-3


def test_a_different_next_token_is_seen() -> None:
    gap, same = difference(torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 0.0]]))
    assert gap == pytest.approx(2**0.5)
    assert not same


def test_an_adapter_leaves_the_model_as_it_was() -> None:
    context = all_trained("llama")
    batch = context.model.batch(inference_cost.typical(context))
    before = answers(context.model, BARE, batch)
    options = [BARE, *(DeploymentOption(kind, random_adapter("llama", kind)) for kind in ("prompt", "prefix", "LoRA"))]
    assert median_seconds(context.model, options, batch, next_token=True).keys() == {option.name for option in options}
    assert torch.equal(answers(context.model, BARE, batch), before)
