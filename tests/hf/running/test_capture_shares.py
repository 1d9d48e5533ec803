"""The share is what the model's own eager attention gives the prompt."""

import pytest
import torch

from helpers.watched import batches, language_model, prefixed, prompted
from promptreach.hf.running.capture import captured, share_of_prompt
from promptreach.hf.running.interface import through


@pytest.mark.parametrize("make", [prompted, prefixed])
def test_the_share_is_the_models_own_eager_weight_of_the_prompt(make) -> None:
    base = language_model()
    base.set_attn_implementation("eager")
    model, batch = make(base).eval(), batches(rows=4)()
    shares: list[float] = []

    def look(own, name, module, arguments):
        result = own(module, **arguments)
        shares.append(share_of_prompt(captured(len(shares), name, module, arguments, result[0], 4), 4))
        return result

    with torch.no_grad(), through(base, look):
        attentions = model(**batch, output_attentions=True).attentions
    last = batch["attention_mask"].sum(1) - 1
    for share, weights in zip(shares, attentions, strict=True):
        offset = weights.shape[2] - batch["input_ids"].shape[1]
        own = [weights[row, :, at + offset, :4].sum(-1).mean() for row, at in enumerate(last.tolist())]
        assert share == pytest.approx(float(sum(own)) / 4, abs=1e-6)
