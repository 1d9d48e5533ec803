"""The two ends of a model are its own: scaled embeddings, capped and scaled logits."""

import pytest
import torch
from torch import Tensor

from helpers.families import small_module
from helpers.reach import SEQUENCES, answer, relative
from helpers.tolerances import TOLERANCES
from promptreach.backbone import Prepended
from promptreach.hf import OpenModel


def test_a_prompt_starts_as_what_the_first_layer_gets() -> None:
    model = OpenModel(small_module("gemma"), name="gemma")
    rows = model.model.get_input_embeddings().weight
    assert torch.allclose(model.vocabulary, rows * 32**0.5)
    batch = model.batch(SEQUENCES[:1])
    content = model.vocabulary[batch.input_ids[0, :3]]
    joined = model.hidden(model.batch([SEQUENCES[0][3:]]), Prepended(prompt=content))
    assert relative(joined, model.hidden(batch)[:, 3:]) <= TOLERANCES["captured attention", torch.float32][0]


@pytest.mark.parametrize("family", ["gemma2", "granite", "cohere"])
def test_logits_are_capped_and_scaled_as_the_model_does(family: str) -> None:
    model = OpenModel(small_module(family), name=family)
    batch = model.batch(SEQUENCES[:1])
    with torch.no_grad():
        own: Tensor = model.model(input_ids=batch.input_ids).logits
    assert relative(answer(model)[: batch.mask.sum()], own[0]) <= TOLERANCES["captured attention", torch.float32][0]
