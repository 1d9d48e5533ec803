"""The protocol of a frozen model: an opened model fulfils it, and what is joined knows its length."""

import pytest
import torch

from helpers.models import tiny_model
from promptreach.backbone import Attachment, Backbone, Prepended
from promptreach.prompt import Prefix, SoftPrompt


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama"])
def test_an_opened_model_is_a_backbone_and_what_it_attaches_an_attachment(family: str) -> None:
    model = tiny_model(family)
    assert isinstance(model, Backbone)
    with model.low_rank(rank=1, alpha=1.0, seed=0) as attached:
        assert isinstance(attached, Attachment)
        assert attached.state().keys() == attached.state().keys()
        assert all(not tensor.requires_grad for tensor in attached.state().values())


def test_something_else_is_none() -> None:
    assert not isinstance(torch.nn.Linear(2, 2), Backbone)
    assert not isinstance(torch.nn.Linear(2, 2), Attachment)


def test_what_is_joined_takes_its_own_number_of_positions() -> None:
    prompt, prefix = SoftPrompt(torch.ones(3, 4)), Prefix(torch.ones(2, 1, 5, 4), torch.ones(2, 1, 5, 4))
    assert Prepended().length == 0
    assert Prepended.of(prompt).length == 3
    assert Prepended.of(prefix).length == 5
    assert Prepended(prompt=torch.ones(7, 3, 4)).length == 3  # one for every example of a batch
    assert Prepended(prefix_keys=torch.ones(2, 7, 1, 5, 4), prefix_values=torch.ones(2, 7, 1, 5, 4)).length == 5


def test_a_joined_prompt_shifts_the_content_and_a_prefix_takes_its_place_at_every_layer() -> None:
    model = tiny_model("llama")
    batch = model.batch([[5, 6, 7]])
    embedded = SoftPrompt(model.vocabulary[[3, 4]].clone())
    whole = model.hidden(model.batch([[3, 4, 5, 6, 7]]))[:, 2:]
    torch.testing.assert_close(model.hidden(batch, Prepended.of(embedded)), whole, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.hidden(batch, Prepended.of(model.cache_of([3, 4]))), whole, rtol=1e-4, atol=1e-5)
