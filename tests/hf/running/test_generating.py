"""Generation with a cache: the logits of every step are those that the model gives without one."""

import pytest
import torch

from helpers.models import tiny_model
from helpers.tolerances import assert_close
from promptreach.backbone import Prepended
from promptreach.hf.running.generating import generated


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_every_step_has_the_logits_of_the_whole_sequence(family: str) -> None:
    model = tiny_model(family)
    prompt = torch.randn(3, model.embedding_size, generator=torch.Generator().manual_seed(0))
    prompts = [[4, 5, 6, 7, 8], [9, 10]]
    tokens, logits = generated(model, prompts, 3, (), Prepended(prompt=prompt))
    for row, own in enumerate(prompts):
        whole = [*own, *tokens[row][:-1]]
        states = model.hidden(model.batch([whole]), Prepended(prompt=prompt))[0, len(own) - 1 :]
        assert_close(logits[:, row], model.vocabulary_logits(states), "reordered states")
        assert tokens[row] == logits[:, row].argmax(-1).tolist()
