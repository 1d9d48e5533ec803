"""The modules against the reference transformer in plain loops."""

import pytest
import torch

from helpers.compiler_cases import (
    STREAM,
    attention,
    attention_weights,
    feed_forward,
    feed_forward_weights,
    normal,
)
from helpers.tolerances import assert_close
from promptreach import reference
from promptreach.weights import AttentionWeights, LayerWeights


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


def test_streams_read_and_write_by_name():
    states = torch.arange(12.0)
    assert STREAM.size == 12
    assert STREAM.indices(["b", "input"]) == [8, 9, 0, 1]
    assert STREAM.read(states, ["b", "input"]).tolist() == [8, 9, 0, 1]
    assert STREAM.width("a", "empty", "b") == 5
    STREAM.add(states, ["b", "input"], torch.tensor([1.0, 2.0, 3.0, 4.0]))
    assert states.tolist() == [3, 5, 2, 3, 4, 5, 6, 7, 9, 11, 10, 11]
