"""The compiled backbone itself: batches, blocks of inputs, frozen weights, and what it refuses."""

import math

import pytest
import torch

from helpers.compiler_cases import random_inputs, small
from helpers.tolerances import assert_close
from promptreach.compiler import build_backbone, gallery_function
from promptreach.compiler.build import CONSTRUCTIONS
from promptreach.errors import InputError
from promptreach.prompt import SoftPrompt


def test_results_do_not_depend_on_the_batch():
    backbone = small(1, 3)
    prompt = backbone.prompt_for(gallery_function("lookup", 1, 3, 1.0))
    x = random_inputs(1, 3, 40)
    whole = backbone(x, prompt)
    assert_close(torch.cat([backbone(x[i : i + 1], prompt) for i in range(40)]), whole, "transformer output")
    assert backbone(x[:0], prompt).shape == (0, 3, 1)


def test_blocks_of_inputs_join_up(monkeypatch):
    backbone = small(1, 2)
    prompt = backbone.prompt_for(gallery_function("lookup", 1, 2, 1.0))
    x = random_inputs(1, 2, 50)
    whole = backbone(x, prompt)
    monkeypatch.setattr(type(backbone), "rows_at_once", lambda self, length: 7)
    assert_close(backbone(x, prompt), whole, "transformer output")


def test_weights_are_frozen_and_a_prompt_can_still_be_trained():
    backbone = small(1, 2)
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    embeddings = backbone.prompt_for(gallery_function("average", 1, 2, 1.0)).embeddings.clone().requires_grad_()
    backbone(random_inputs(1, 2, 8), SoftPrompt(embeddings)).sum().backward()
    assert bool((embeddings.grad[:, backbone.stream.blocks["row"]] != 0).any())


def test_bad_inputs_are_named_all_at_once():
    backbone = small(1, 2)
    prompt = backbone.prompt_for(gallery_function("average", 1, 2, 1.0))
    x = random_inputs(1, 2, 3)
    for bad in (x + 1, x * float("nan"), -x):
        with pytest.raises(InputError, match=r"entries in \[0, 1\]"):
            backbone(bad, prompt)
    with pytest.raises(InputError) as error:
        backbone(random_inputs(2, 2, 3), SoftPrompt(torch.zeros(3, 5)))
    assert [fault.where for fault in error.value.faults] == ["x", "prompt"]
    narrow = build_backbone(1, 2, 1.0, 0.2).to(torch.float32)
    with pytest.raises(InputError, match="certified"):
        narrow(x, prompt)


def built(construction: str):
    options = {"curvature": 1.0} if construction == "multilinear" else {}
    return build_backbone(1, 1, 1.0, 0.25, construction, **options), gallery_function("average", 1, 1, 1.0)


@pytest.mark.parametrize("construction", CONSTRUCTIONS)
@pytest.mark.parametrize("lipschitz", [-1.0, math.nan, math.inf])
def test_no_function_has_such_a_constant(construction, lipschitz):
    backbone, target = built(construction)
    prompt = backbone.prompt_for(target)
    with pytest.raises(InputError, match="lipschitz"):
        backbone.sup_certificate(prompt, lipschitz)
    with pytest.raises(InputError, match="lipschitz"):
        backbone.certify(prompt.embeddings, lipschitz)
    assert backbone.sup_certificate(prompt, 0.0).value >= 0
