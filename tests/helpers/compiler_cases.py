"""What the compiler's tests share: small backbones, and any backbone as layers of the reference transformer."""

from functools import lru_cache

import torch

from promptreach.compiler import build_backbone
from promptreach.compiler.papers.deep import HardmaxHeads
from promptreach.compiler.papers.step_function import NarrowSteps, StepFunction, WideSteps
from promptreach.compiler.parts.blocks import Attention, FeedForward, Projection, Stream
from promptreach.weights import AttentionWeights, FeedForwardWeights, LayerWeights

SIZES = [(1, 1), (1, 2), (2, 1), (1, 3), (2, 2)]


@lru_cache
def small(dim, tokens, tol=0.2, construction="programmable", dtype=torch.float64, lipschitz=1.0, **options):
    """A backbone of few cells, built once for all tests; they must not change it."""
    return build_backbone(dim, tokens, lipschitz, tol, construction, dtype=dtype, **options)


def reference_layers(backbone):
    """The layers as the reference's: an attention that does nothing stands before each feed-forward layer."""
    nothing = silent_attention(backbone.stream.size)
    return [
        LayerWeights(attention_weights(item).to(torch.float64))
        if isinstance(item, Attention)
        else LayerWeights(nothing, feed_forward_weights(item).to(torch.float64))
        for item in backbone.passes
    ]


def silent_attention(size: int) -> AttentionWeights:
    """An attention that adds nothing."""
    return AttentionWeights(*[torch.zeros(1, 1, size, dtype=torch.float64)] * 3, torch.zeros(size, 1).double())


def feed_forward_weights(item: FeedForward) -> FeedForwardWeights:
    """The same layer with matrices over the whole stream.

    A step function becomes one hidden layer of twice the width, clip(z) = relu(z) - relu(z - 1): equal in exact
    arithmetic only, as its terms grow with t, where those of its own two layers stay in [0, 1].
    """
    if isinstance(item, NarrowSteps):
        scale = torch.cat([item.up[:1, 0], item.middle[1::2, 0, 1]])
        offset = -torch.cat([item.up_bias[:1], item.middle_bias[1::2, 0]])
        jumps = torch.cat([item.middle_bias[1::2, 2:], item.down_bias[None]])
        return _of_steps(item, StepFunction(scale, offset, jumps, item.up_bias[2:]))
    if isinstance(item, WideSteps):
        start = item.down_bias + item.down.sum(dim=1)
        return _of_steps(item, StepFunction(item.up[:, 0], -item.up_bias, -item.down.T, start))
    return _over_stream(item, _full(item.up), item.up_bias, _full(item.down), item.down_bias)


def attention_weights(item: Attention) -> AttentionWeights:
    """The same layer with matrices over the whole stream; hardmax heads as softmax heads at their cold scale."""
    size, indices = item.stream.size, item.stream.indices
    if isinstance(item, HardmaxHeads):
        one = item.query.new_zeros(len(item.query), 1, size)
        one[:, 0, indices(["token"])] = 1
        output = item.query.new_zeros(size, len(item.query))
        output[indices(["token"])] = item.output
        return AttentionWeights(one, one.clone(), one.clone(), output, item.scale, query_bias=item.query_bias[:, None])

    def spread(matrix, blocks):
        wide = matrix.new_zeros(len(matrix), size)
        wide[:, indices(blocks)] = _full(matrix)
        return wide

    return AttentionWeights(
        spread(item.query, item.query_reads)[None],
        spread(item.key, item.key_reads)[None],
        spread(item.value, item.value_reads)[None],
        spread(_full(item.output).T, item.writes).T,
        item.scale,
        query_bias=None if item.query_bias is None else item.query_bias[None],
        key_bias=None if item.key_bias is None else item.key_bias[None],
    )


def _of_steps(item: FeedForward, steps: StepFunction) -> FeedForwardWeights:
    up, bias = steps.scale.repeat(2)[:, None], -torch.cat([steps.offset, steps.offset + 1])
    return _over_stream(item, up, bias, torch.cat([steps.jumps, -steps.jumps]).T, steps.start)


def _over_stream(item: FeedForward, up, up_bias, down, down_bias) -> FeedForwardWeights:
    size, writes = item.stream.size, item.stream.indices(item.writes)
    wide_up, wide_down, bias = up.new_zeros(len(up), size), up.new_zeros(size, len(up)), up.new_zeros(size)
    wide_up[:, item.stream.indices(item.reads)] = up
    wide_down[writes] = down
    if down_bias is not None:
        bias[writes] = down_bias
    return FeedForwardWeights(wide_up, wide_down, "relu", up_bias, bias)


def _full(matrix):
    return matrix if matrix.ndim == 2 else matrix.diag()


def random_inputs(dim, tokens, count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, tokens, dim, generator=generator, dtype=torch.float64)


STREAM = Stream(input=2, position=3, a=3, empty=0, b=2, output=2)
"""A stream with an empty direction and two of the same width, for single modules."""


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
        query=Projection(["a", "input"], normal(3, 5), normal(3, seed=4)),
        key=Projection(["b"], normal(3, 2, seed=5), normal(3, seed=6)),
        value=Projection(["b"], value),
        output=Projection(["output"], output),
        scale=0.7,
    )
