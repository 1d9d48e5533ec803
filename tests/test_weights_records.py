"""Weights as records: shapes are checked when one is made, and every fault is named."""

import pytest
import torch

from promptreach.reference import attend
from promptreach.weights import AttentionWeights, FeedForwardWeights, LayerWeights, NormWeights


def attention(heads=4, kv_heads=2, **changes) -> AttentionWeights:
    generator = torch.Generator().manual_seed(0)
    shapes = {"query": (heads, 3, 6), "key": (kv_heads, 3, 6), "value": (kv_heads, 5, 6), "output": (7, heads * 5)}
    biases = {"query_bias": (heads, 3), "key_bias": (kv_heads, 3), "value_bias": (kv_heads, 5), "output_bias": (7,)}
    fields = {name: torch.randn(shape, generator=generator) for name, shape in (shapes | biases).items()}
    return AttentionWeights(**(fields | changes))


def test_sizes_are_read_off_the_matrices():
    weights = attention()
    sizes = (weights.num_heads, weights.num_kv_heads, weights.head_dim, weights.hidden_size, weights.output_size)
    assert sizes == (4, 2, 3, 6, 7)
    assert attention(output=None, output_bias=None).output_size == 20
    assert weights.softmax_scale == 3**-0.5
    assert attention(scale=1.0).softmax_scale == 1.0


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"query": torch.zeros(3, 6)}, ["query"]),
        ({"key": torch.zeros(3, 3, 6), "key_bias": None}, ["key", "value", "value_bias"]),
        ({"key": torch.zeros(2, 4, 6)}, ["key"]),
        ({"value": torch.zeros(2, 5, 7)}, ["value"]),
        ({"output": torch.zeros(7, 19)}, ["output"]),
        ({"query_bias": torch.zeros(4, 4), "output_bias": torch.zeros(6)}, ["query_bias", "output_bias"]),
        ({"output": torch.zeros(7, 20, dtype=torch.float64)}, ["weights"]),
    ],
)
def test_every_shape_that_does_not_fit_is_named(changes, named, faults_of):
    assert faults_of(lambda: attention(**changes)) == named


def test_heads_add_up_to_the_block(faults_of):
    weights = attention().to(torch.float64)
    inputs = torch.randn(3, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    heads = [attend(weights.head(index), inputs) for index in range(4)]
    torch.testing.assert_close(sum(heads) + weights.output_bias, attend(weights, inputs), rtol=1e-12, atol=1e-12)
    assert faults_of(lambda: weights.head(4)) == ["index"]
    assert faults_of(lambda: weights.head(-1)) == ["index"]


def test_conversion_reaches_every_tensor():
    weights = LayerWeights(
        attention(query_norm=NormWeights("rms", torch.ones(3))),
        FeedForwardWeights(torch.ones(8, 6), torch.ones(6, 8), "relu"),
        attention_norm=NormWeights("layer", torch.ones(6), torch.ones(6)),
        norm_position="pre",
    ).to(torch.float64)
    tensors = [
        weights.attention.query,
        weights.attention.value_bias,
        weights.attention.query_norm.weight,
        weights.feed_forward.up,
        weights.attention_norm.bias,
    ]
    assert {tensor.dtype for tensor in tensors} == {torch.float64}
    assert weights.norm_position == "pre"
    assert weights.feed_forward_norm is None


def test_words_that_mean_nothing_here_are_refused(faults_of):
    """`Pre` would be read as no norm in front, `LayerNorm` as RMSNorm and `tanh` as ReLU."""
    norm = NormWeights("rms", torch.ones(6))
    assert faults_of(lambda: LayerWeights(attention(), None, norm, None, "Pre")) == ["norm_position"]
    assert faults_of(lambda: NormWeights("LayerNorm", torch.ones(6))) == ["kind"]
    assert faults_of(lambda: FeedForwardWeights(torch.ones(8, 6), torch.ones(6, 8), "tanh")) == ["activation"]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"down": torch.ones(6, 7)}, ["down"]),
        ({"up_bias": torch.ones(6), "down_bias": torch.ones(8)}, ["up_bias", "down_bias"]),
        ({"gate": torch.ones(8, 5), "gate_bias": torch.ones(1, 8)}, ["gate", "gate_bias"]),
        ({"up": torch.ones(8), "activation": "tanh"}, ["activation", "up"]),
    ],
)
def test_every_shape_of_a_feed_forward_that_does_not_fit_is_named(changes, named, faults_of):
    fields = {"up": torch.ones(8, 6), "down": torch.ones(6, 8), "activation": "relu"}
    assert faults_of(lambda: FeedForwardWeights(**(fields | changes))) == named


def test_norms_of_another_size_are_refused(faults_of):
    assert faults_of(lambda: NormWeights("layer", torch.ones(6), torch.ones(5))) == ["bias"]
    assert faults_of(lambda: NormWeights("rms", torch.ones(1, 6))) == ["weight"]
    norm, both = NormWeights("rms", torch.ones(5)), ["query_norm.weight", "key_norm.weight"]
    assert faults_of(lambda: attention(query_norm=norm, key_norm=norm)) == both
    named = ["attention_norm.weight", "feed_forward_norm.weight"]
    assert faults_of(lambda: LayerWeights(attention(), None, norm, norm, "pre")) == named


def test_all_projections_that_are_none_are_named(faults_of):
    assert faults_of(lambda: attention(query=torch.ones(3), value=torch.ones(0, 5, 6))) == ["query", "value"]


def test_a_detached_copy_has_no_graph_at_any_depth():
    norm = NormWeights("rms", torch.ones(3, requires_grad=True))
    weights = LayerWeights(attention(query_norm=norm)).detached()
    assert weights.attention.query_norm.weight.dtype == torch.float64
    assert not weights.attention.query_norm.weight.requires_grad


def test_a_norm_without_a_place_is_refused(faults_of):
    norm = NormWeights("rms", torch.ones(6))
    assert faults_of(lambda: LayerWeights(attention(), attention_norm=norm)) == ["norm_position"]
