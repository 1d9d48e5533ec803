"""Positions that change with the length of the input: no row depends on the rows beside it."""

from typing import Any

import pytest
import torch

from helpers.families import small_module
from helpers.models import tiny_model, tiny_module
from helpers.reach import relative
from helpers.tolerances import TOLERANCES
from promptreach.backbone import UNBOUNDED, Prepended
from promptreach.errors import InputError
from promptreach.hf import OpenModel, precompute
from promptreach.prompt import SoftPrompt

LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0] * 4,
    "long_factor": [3.0] * 4,
    "original_max_position_embeddings": 8,
    "factor": 8.0,
}
SHORT, LONG = [5, 12, 19, 26], [5, 12, 19, 26, 33, 40, 47, 54, 61, 7, 14, 21]


def longrope() -> OpenModel:
    return OpenModel(small_module("phi3", rope_parameters=LONGROPE, original_max_position_embeddings=8), name="phi3")


@pytest.mark.parametrize("kind", ["nothing", "shared prompt", "a prompt each"])
def test_a_row_does_not_depend_on_the_longest_one_beside_it(kind: str) -> None:
    model = longrope()
    assert model.turning == ("longrope", 8)
    prompts = torch.randn(2, 2, 32, generator=torch.Generator().manual_seed(0))
    joined: Any = {"nothing": None, "shared prompt": Prepended(prompts[0]), "a prompt each": Prepended(prompts)}[kind]
    together = model.hidden(model.batch([LONG, SHORT]), joined)
    assert together.shape[:2] == (2, len(LONG))
    for row, ids in enumerate([LONG, SHORT]):
        own = Prepended(prompts[row]) if kind == "a prompt each" else joined
        alone = model.hidden(model.batch([ids]), own)[0]
        deviation = relative(together[row, : len(ids)], alone)
        assert deviation <= TOLERANCES["reordered states", torch.float32][0]
    # Without the parting the short row would be rotated as if it were long.
    naive = model.run(model.batch([LONG, SHORT]), None).last_hidden_state[1, : len(SHORT)]
    assert relative(naive, model.hidden(model.batch([SHORT]))[0]) > 1e-3


def test_a_precomputed_prompt_ends_where_the_rotation_turns() -> None:
    model = longrope()
    cache = precompute(model, SoftPrompt(model.vocabulary[:2].clone()))
    cache.inputs(torch.tensor([SHORT]))
    with pytest.raises(InputError, match="longrope positions are rotated otherwise"):
        cache.inputs(torch.tensor([LONG]))


def test_dynamic_positions_stop_at_the_context_that_they_do_not_change() -> None:
    scaled = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    model = OpenModel(tiny_module("llama", rope_parameters=scaled, max_position_embeddings=16))
    assert model.max_positions == 16
    with pytest.raises(InputError, match="at most 16"):
        model.hidden(model.batch([[5] * 17]))


def test_positions_may_be_unbounded() -> None:
    model = OpenModel(small_module("bloom"), name="bloom")
    assert model.max_positions == UNBOUNDED
    assert tiny_model("roberta").max_positions == 64
