"""The plain-loop transformer against PyTorch's own modules, the split, and hand-made cases."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from helpers.tolerances import assert_close
from promptreach.attention import split
from promptreach.errors import InputError
from promptreach.prompt import SoftPrompt
from promptreach.reference import ACTIVATIONS, attend, layer, transformer
from promptreach.weights import AttentionWeights, FeedForwardWeights, LayerWeights, NormWeights

HIDDEN, SEQ = 6, 5


@pytest.fixture
def normal():
    generator = torch.Generator().manual_seed(7)
    return lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)


def attention_weights(normal, heads=4, kv_heads=2, head_dim=3, **options) -> AttentionWeights:
    """Every part present: grouped heads, all biases, an output projection, norms of queries and keys."""
    return AttentionWeights(
        query=normal(heads, head_dim, HIDDEN),
        key=normal(kv_heads, head_dim, HIDDEN),
        value=normal(kv_heads, head_dim, HIDDEN),
        output=normal(HIDDEN, heads * head_dim),
        query_bias=normal(heads, head_dim),
        key_bias=normal(kv_heads, head_dim),
        value_bias=normal(kv_heads, head_dim),
        output_bias=normal(HIDDEN),
        query_norm=NormWeights("rms", normal(head_dim), eps=1e-6),
        key_norm=NormWeights("rms", normal(head_dim), eps=1e-6),
        **options,
    )


def fast_attention(weights: AttentionWeights, inputs, prefix_keys, prefix_values, mask=None):
    """The same block by batched matrix products and `promptreach.attention.split`."""

    def project(matrix, bias, norm):
        vectors = torch.einsum("hdk,sk->hsd", matrix, inputs) + bias[:, None]
        return functional.rms_norm(vectors, vectors.shape[-1:], norm.weight, norm.eps) if norm else vectors

    query = project(weights.query, weights.query_bias, weights.query_norm)
    keys = project(weights.key, weights.key_bias, weights.key_norm)
    values = project(weights.value, weights.value_bias, None)
    heads = split(query, keys, values, prefix_keys, prefix_values, scale=weights.scale, mask=mask).output
    return heads.transpose(0, 1).flatten(1) @ weights.output.T + weights.output_bias


@pytest.mark.parametrize("prompt", [0, 2])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("scale", [None, 1.0])
def test_attention_block_equals_the_batched_one(normal, prompt, causal, scale):
    weights = attention_weights(normal, causal=causal, scale=scale)
    inputs, keys, values = normal(SEQ, HIDDEN), normal(2, prompt, 3), normal(2, prompt, 3)
    mask = torch.ones(SEQ, SEQ, dtype=torch.bool).tril() if causal else None
    expected = fast_attention(weights, inputs, keys, values, mask)
    assert_close(attend(weights, inputs, keys, values), expected, "transformer output")


def test_a_padding_mask_hides_tokens(normal):
    weights, inputs = attention_weights(normal), normal(SEQ, HIDDEN)
    mask = torch.tensor([True, True, True, False, False])
    assert_close(attend(weights, inputs, mask=mask)[:3], attend(weights, inputs[:3]), "transformer output")
    pairs = torch.rand(SEQ, SEQ, generator=torch.Generator().manual_seed(0)) < 0.5
    none = normal(2, 0, 3)
    assert_close(
        attend(weights, inputs, mask=pairs), fast_attention(weights, inputs, none, none, pairs), "transformer output"
    )


def torch_layer(module: nn.TransformerEncoderLayer, position: str) -> LayerWeights:
    """The record of PyTorch's encoder layer."""
    attention, heads = module.self_attn, module.self_attn.num_heads
    query, key, value = attention.in_proj_weight.detach().reshape(3, heads, -1, HIDDEN)
    query_bias, key_bias, value_bias = attention.in_proj_bias.detach().reshape(3, heads, -1)

    def norm(part):
        return NormWeights("layer", part.weight.detach(), part.bias.detach(), part.eps)

    return LayerWeights(
        AttentionWeights(
            query=query,
            key=key,
            value=value,
            output=attention.out_proj.weight.detach(),
            query_bias=query_bias,
            key_bias=key_bias,
            value_bias=value_bias,
            output_bias=attention.out_proj.bias.detach(),
        ),
        FeedForwardWeights(
            module.linear1.weight.detach(),
            module.linear2.weight.detach(),
            "gelu",
            module.linear1.bias.detach(),
            module.linear2.bias.detach(),
        ),
        norm(module.norm1),
        norm(module.norm2),
        position,
    )


@pytest.mark.parametrize("position", ["pre", "post"])
def test_layer_equals_pytorchs_encoder_layer(normal, position):
    torch.manual_seed(3)
    module = nn.TransformerEncoderLayer(
        HIDDEN,
        2,
        8,
        dropout=0.0,
        activation="gelu",
        norm_first=position == "pre",
        batch_first=True,
        dtype=torch.float64,
    )
    for parameter in module.parameters():
        nn.init.normal_(parameter)  # the usual start has zero biases and unit norms, which would hide mistakes
    module.train()  # not the fused inference path
    inputs = normal(SEQ, HIDDEN)
    expected = module(inputs[None], is_causal=False)[0].detach()
    assert_close(layer(torch_layer(module, position), inputs), expected, "transformer output")


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("relu", functional.relu),
        ("gelu", functional.gelu),
        ("gelu_tanh", lambda x: functional.gelu(x, approximate="tanh")),
        ("silu", functional.silu),
    ],
)
@pytest.mark.parametrize("gated", [False, True])
def test_feed_forward_and_its_activations(normal, name, function, gated):
    up, gate, down = 10 * normal(7, HIDDEN), 10 * normal(7, HIDDEN), normal(HIDDEN, 7)
    network = FeedForwardWeights(up, down, name, gate=gate if gated else None, gate_bias=normal(7) if gated else None)
    silent = AttentionWeights(normal(1, 2, HIDDEN), normal(1, 2, HIDDEN), torch.zeros(1, HIDDEN, HIDDEN).double())
    inputs = normal(SEQ, HIDDEN)
    hidden = function(inputs @ gate.T + network.gate_bias) * (inputs @ up.T) if gated else function(inputs @ up.T)
    assert_close(layer(LayerWeights(silent, network), inputs), inputs + hidden @ down.T, "transformer output")


def test_a_layer_without_feed_forward_is_attention_and_residual(normal):
    weights, inputs = attention_weights(normal), normal(SEQ, HIDDEN)
    assert_close(layer(LayerWeights(weights), inputs), inputs + attend(weights, inputs), "transformer output")


def test_a_pre_norm_stands_inside_the_residual_connection(normal):
    weights, inputs = attention_weights(normal), normal(SEQ, HIDDEN)
    norm = NormWeights("rms", normal(HIDDEN), eps=1e-6)
    normed = functional.rms_norm(inputs, (HIDDEN,), norm.weight, norm.eps)
    result = layer(LayerWeights(weights, attention_norm=norm, norm_position="pre"), inputs)
    assert_close(result, inputs + attend(weights, normed), "transformer output")


def test_the_prompt_stands_in_front_and_its_outputs_are_cut_off(normal):
    layers = [LayerWeights(attention_weights(normal)) for _ in range(2)]
    prompt, inputs = SoftPrompt(normal(2, HIDDEN).float()), normal(SEQ, HIDDEN)
    joined = torch.cat([prompt.embeddings.double(), inputs])
    expected = layer(layers[1], layer(layers[0], joined))[2:]
    assert torch.equal(transformer(layers, inputs, prompt), expected)
    assert torch.equal(transformer([], inputs), inputs)


def test_a_prompt_before_a_causal_model_is_a_prefix(normal):
    weights = attention_weights(normal, causal=True)
    prompt, inputs = SoftPrompt(normal(2, HIDDEN)), normal(SEQ, HIDDEN)

    def project(matrix, bias):
        return torch.einsum("hdk,sk->hsd", matrix, prompt.embeddings) + bias[:, None]

    keys = functional.rms_norm(project(weights.key, weights.key_bias), (3,), weights.key_norm.weight, 1e-6)
    as_prefix = inputs + attend(weights, inputs, keys, project(weights.value, weights.value_bias))
    assert_close(transformer([LayerWeights(weights)], inputs, prompt), as_prefix, "transformer output")


def test_a_position_that_sees_nothing_attends_to_zero(normal):
    weights = AttentionWeights(normal(1, 2, HIDDEN), normal(1, 2, HIDDEN), normal(1, 2, HIDDEN))
    assert (attend(weights, normal(SEQ, HIDDEN), mask=torch.zeros(SEQ, dtype=torch.bool)) == 0).all()


def test_huge_scores_do_not_overflow(normal):
    weights = AttentionWeights(normal(1, 2, HIDDEN), normal(1, 2, HIDDEN), normal(1, 2, HIDDEN), scale=1e6)
    assert attend(weights, normal(SEQ, HIDDEN)).isfinite().all()


def test_activations_keep_their_tails():
    assert ACTIVATIONS["gelu"](-10.0) == pytest.approx(-10 * 7.619853024160527e-24, rel=1e-12)
    assert ACTIVATIONS["silu"](-800.0) == pytest.approx(-800 * math.exp(-800), abs=1e-300)
    assert ACTIVATIONS["silu"](800.0) == 800.0


def test_rotary_weights_are_refused_with_the_way_out(normal):
    weights = AttentionWeights(normal(1, 2, HIDDEN), normal(1, 2, HIDDEN), normal(1, 2, HIDDEN), rotary=True)
    with pytest.raises(InputError, match=r"rotary.*Capture the rotated queries and keys"):
        attend(weights, normal(SEQ, HIDDEN))
