"""The modules against the reference transformer in plain loops."""

import pytest
import torch

from helpers.compiler_cases import (
    SIZES,
    attention_weights,
    feed_forward_weights,
    random_inputs,
    reference_layers,
    small,
)
from helpers.tolerances import assert_close
from promptreach import reference
from promptreach.compiler.backbone import CompiledBackbone
from promptreach.compiler.parts.blocks import Attention, FeedForward
from promptreach.compiler.parts.stream import Stream
from promptreach.prompt import SoftPrompt
from promptreach.weights import AttentionWeights, LayerWeights

STREAM = Stream(input=2, position=3, a=3, empty=0, b=2, output=2)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def feed_forward(diagonal):
    up, down = (normal(3), normal(3, seed=1)) if diagonal else (normal(5, 5), normal(3, 5, seed=1))
    reads = ["a"] if diagonal else ["a", "b"]
    return FeedForward("f", STREAM, reads, ["a"], up, normal(len(up), seed=2), down, normal(3, seed=3))


def attention(diagonal):
    value, output = (normal(2), normal(2, seed=1)) if diagonal else (normal(4, 2), normal(2, 4, seed=1))
    return Attention(
        "a",
        STREAM,
        query_reads=["a", "input"],
        key_reads=["b"],
        value_reads=["b"],
        writes=["output"],
        query=normal(3, 5),
        query_bias=normal(3, seed=4),
        key=normal(3, 2, seed=5),
        key_bias=normal(3, seed=6),
        value=value,
        output=output,
        scale=0.7,
    )


@pytest.mark.parametrize("diagonal", [False, True])
def test_a_relu_pass_is_the_reference_feed_forward(diagonal):
    item, states = feed_forward(diagonal), normal(4, STREAM.size, seed=9)
    silent = AttentionWeights(*[torch.zeros(1, 1, STREAM.size).double()] * 3, torch.zeros(STREAM.size, 1).double())
    expected = reference.layer(LayerWeights(silent, feed_forward_weights(item)), states)
    assert_close(item(states.clone()), expected, "layer output")


@pytest.mark.parametrize("diagonal", [False, True])
@pytest.mark.parametrize("prompt_rows", [0, 3])
def test_a_softmax_pass_is_the_reference_attention(diagonal, prompt_rows):
    item = attention(diagonal)
    content, prompt = normal(2, 4, STREAM.size, seed=9), normal(3, STREAM.size, seed=10)[:prompt_rows]
    after, rows = item(content.clone(), prompt[None].clone() if prompt_rows else None, update_prompt=True)
    for index in range(2):
        joined = torch.cat([prompt, content[index]])
        expected = joined + reference.attend(attention_weights(item), joined)
        assert_close(after[index], expected[prompt_rows:], "layer output")
        if prompt_rows:
            assert_close(rows[index], expected[:prompt_rows], "layer output")


def test_without_update_the_prompt_rows_stay_one_copy():
    item, prompt = attention(False), normal(1, 3, STREAM.size)
    _, rows = item(normal(5, 2, STREAM.size), prompt, update_prompt=False)
    assert rows is prompt


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


def test_streams_read_and_write_by_name():
    states = torch.arange(12.0)
    assert STREAM.size == 12
    assert STREAM.indices(["b", "input"]) == [8, 9, 0, 1]
    assert STREAM.read(states, ["b", "input"]).tolist() == [8, 9, 0, 1]
    assert STREAM.width("a", "empty", "b") == 5
    STREAM.add(states, ["b", "input"], torch.tensor([1.0, 2.0, 3.0, 4.0]))
    assert states.tolist() == [3, 5, 2, 3, 4, 5, 6, 7, 9, 11, 10, 11]
