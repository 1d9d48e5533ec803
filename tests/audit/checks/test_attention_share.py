"""The share of attention that a prompt takes, against softmax itself."""

import pytest
import torch

from helpers.models import tiny_model
from promptreach.audit.checks.attention_share import mean_share
from promptreach.backbone import Prepended
from promptreach.hf import capture


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama"])
def test_attention_share_is_the_mass_that_softmax_puts_on_the_prompt(family: str) -> None:
    model = tiny_model(family)
    batch = model.batch(model.tokenize(["the cat sat on the mat", "a dog ran"]))
    prompt = torch.randn(3, model.hidden_size, generator=torch.Generator().manual_seed(1))
    joined = Prepended(prompt=prompt)
    for layer in capture(model, batch, joined):
        groups = layer.query.shape[1] // layer.key.shape[1]
        scores = layer.query @ layer.key.repeat_interleave(groups, 1).mT * layer.scale
        weights = scores.masked_fill(~layer.mask, -torch.inf).softmax(-1)
        share = weights[:, :, 3:, :3].sum(-1)
        expected = (share * batch.mask[:, None]).sum((0, 2)) / batch.mask.sum()
        torch.testing.assert_close(mean_share(layer, batch), expected, rtol=1e-5, atol=1e-6)
