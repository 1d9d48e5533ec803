"""Whole backbones against the reference transformer, which runs every layer over every row."""

import pytest
import torch

from helpers.compiler_cases import (
    SIZES,
    STREAM,
    attention,
    feed_forward,
    normal,
    random_inputs,
    reference_layers,
    small,
)
from helpers.tolerances import assert_close
from promptreach import reference
from promptreach.compiler.backbone import CompiledBackbone
from promptreach.compiler.parts.blocks import FeedForward
from promptreach.prompt import SoftPrompt


class Stack(CompiledBackbone):
    """A backbone of given passes with random weights, which nothing compiles for."""

    def _nothing_compiles_for_it(self, *_):
        raise AssertionError

    points = rows = edges = prompt_faults = _certificate = _nothing_compiles_for_it


@pytest.mark.parametrize("order", ["fafa", "aafa", "af", "ffa", "a", "f", ""])
def test_skipping_what_prompt_rows_do_not_need_changes_nothing(order):
    """Against the reference, which runs every pass over every row."""
    made = {
        "f": lambda seed: FeedForward(
            "f", STREAM, ["a", "output"], ["a", "b"], normal(4, 5, seed=seed), None, normal(5, 4, seed=seed + 1)
        ),
        "a": lambda seed: attention(False),
    }
    plan = small(2, 3).plan
    backbone = Stack(plan, STREAM, [made[kind](3 * index) for index, kind in enumerate(order)])
    prompt, x = SoftPrompt(normal(4, STREAM.size, seed=11)), random_inputs(2, 3, 3)
    expected = [
        reference.transformer(reference_layers(backbone), backbone.embed(item[None])[0], prompt)[:, -2:] for item in x
    ]
    assert_close(backbone(x, prompt), torch.stack(expected), "transformer output")


def test_what_prompt_rows_need_is_found():
    attend, feed = attention(False), feed_forward(False)
    plan = small(2, 3).plan
    # The last pass serves content alone; `feed` writes "a", which only queries read.
    assert Stack(plan, STREAM, [feed, attend]).needed_by_prompt() == [False, False]
    other = FeedForward("f", STREAM, ["output"], ["b"], normal(1, 2), None, normal(2, 1))
    assert Stack(plan, STREAM, [feed, attend, other, attend]).needed_by_prompt() == [True, True, True, False]


@pytest.mark.parametrize(("dim", "tokens"), SIZES)
def test_a_compiled_transformer_is_the_reference_transformer(dim, tokens):
    backbone = small(dim, tokens, 0.3)
    prompt = backbone.prompt_for(lambda x: 0.5 + 0.4 * (x[::-1] - 0.5))
    x = random_inputs(dim, tokens, 4)
    layers = reference_layers(backbone)
    for item, output in zip(x, backbone(x, prompt), strict=True):
        states = reference.transformer(layers, backbone.embed(item[None])[0], prompt)
        assert_close(output, states @ backbone.readout.T, "transformer output")
