"""Prompts and prefixes: shapes are checked when a record is made, and every fault is named."""

import pytest
import torch

from promptreach.prompt import LowRankUpdate, Prefix, SoftPrompt, join_mask


def test_a_prompt_stands_in_front_of_every_sequence():
    prompt, inputs = SoftPrompt(torch.ones(2, 3, dtype=torch.float64)), torch.zeros(4, 5, 3)
    joined = prompt.join(inputs)
    assert joined.shape == (4, 7, 3)
    assert joined.dtype == inputs.dtype
    assert (joined[:, :2] == 1).all()
    assert (joined[:, 2:] == 0).all()
    assert (prompt.length, prompt.hidden_size) == (2, 3)


def test_gradients_reach_the_embeddings_through_the_join():
    embeddings = torch.zeros(2, 3, requires_grad=True)
    SoftPrompt(embeddings).join(torch.zeros(4, 5, 3)).sum().backward()
    assert (embeddings.grad == 4).all()


@pytest.mark.parametrize(
    "embeddings", [torch.zeros(3), torch.zeros(0, 3), torch.zeros(2, 0), torch.tensor([[float("nan")]])]
)
def test_bad_prompts_are_refused(embeddings, faults_of):
    assert faults_of(lambda: SoftPrompt(embeddings)) == ["embeddings"]


def test_prefixes_agree_in_layer_head_and_slot(faults_of):
    prefix = Prefix(torch.zeros(2, 3, 4, 5), torch.zeros(2, 3, 4, 6))
    assert (prefix.num_layers, prefix.length) == (2, 4)
    assert faults_of(lambda: Prefix(torch.zeros(2, 3, 4, 5), torch.zeros(2, 3, 3, 5))) == ["values"]
    assert faults_of(lambda: Prefix(torch.zeros(2, 3, 0, 5), torch.full((2, 3, 1, 5), torch.inf))) == ["keys", "values"]


def test_masks_of_joined_sequences():
    mask = torch.tensor([[True, True, False], [True, False, False]])
    assert join_mask(mask, 2).tolist() == [[True] * 4 + [False], [True] * 3 + [False] * 2]
    assert join_mask(mask.long(), 1).dtype == torch.int64


def test_every_adapter_names_its_kind_and_its_positions() -> None:
    prompt, prefix = SoftPrompt(torch.ones(3, 4)), Prefix(torch.ones(2, 1, 5, 4), torch.ones(2, 1, 5, 4))
    update = LowRankUpdate(2, 4.0, {})
    assert [one.kind for one in (prompt, prefix, update)] == ["prompt", "prefix", "lora"]
    assert [one.positions for one in (prompt, prefix, update)] == [3, 5, 0]
