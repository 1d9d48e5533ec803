"""A step function of one number as a relu network: how papers A and B turn the id of a context into an output.

Both forms compute, for a number t and whole numbers y,

    y(t) = start + sum_n jump_n clip(scale_n t - offset_n),      clip(z) = min(max(z, 0), 1) = 1 - relu(1 - relu(z)),

one rung for each id at which the output changes. The wide form has two hidden layers with one unit for each rung; the
narrow form has two layers for each rung, of dim + 2 units: (clip, t, y), papers A and B's trade of width for depth.
Rungs are disjoint and ordered, so at most one clip is neither 0 nor 1, and y(t) lies between neighbouring heights at
every t. Off the ramps all sums are of whole numbers below 2^24, hence exact in both forms.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from promptreach.compiler.parts.blocks import FeedForward
from promptreach.compiler.parts.stream import Stream
from promptreach.weights import FeedForwardWeights


class Rungs(NamedTuple):
    """A step function: see the module.

    Attributes:
        scale, offset: a rung climbs from 0 to 1 as scale t - offset does.
        jumps: whole numbers.
        start: the height left of all rungs, whole numbers that are not negative, like all heights.
    """

    scale: Float[Tensor, " rungs"]
    offset: Float[Tensor, " rungs"]
    jumps: Float[Tensor, "rungs out"]
    start: Float[Tensor, " out"]

    @property
    def number(self) -> int:
        return len(self.scale)


def changes(heights: Shaped[Tensor, "ids out"]) -> Int[Tensor, " rungs"]:
    """Where a list of heights differs from its successor: the rungs that it needs."""
    return (heights[1:] != heights[:-1]).any(dim=1).nonzero()[:, 0]


class Ladder(FeedForward):
    """writes += y(t) by two hidden layers of one unit for each rung, t being the block that is read (t >= 0)."""

    def __init__(self, name: str, stream: Stream, reads: str, writes: str, rungs: Rungs) -> None:
        super().__init__(
            name,
            stream,
            [reads],
            [writes],
            rungs.scale[:, None],
            -rungs.offset,
            -rungs.jumps.T.contiguous(),
            rungs.start + rungs.jumps.sum(dim=0),
        )

    def forward(self, states: Float[Tensor, "*batch hidden"]) -> Float[Tensor, "*batch hidden"]:
        """The states after this pass; the same tensor, changed in place."""
        climbed = nn.functional.linear(self.stream.read(states, self.reads), self.up, self.up_bias).relu_()
        below = climbed.neg_().add_(1).relu_()
        self.stream.add(states, self.writes, nn.functional.linear(below, self.down, self.down_bias))
        return states

    def weights(self) -> FeedForwardWeights:
        """The same function with one hidden layer of twice the width, clip(z) = relu(z) - relu(z - 1).

        Equal in exact arithmetic only: its terms grow with t, where those of the two layers stay in [0, 1].
        """
        assert self.up_bias is not None
        assert self.down_bias is not None
        return _one_layer(
            self, Rungs(self.up[:, 0], -self.up_bias, -self.down.T, self.down_bias + self.down.sum(dim=1))
        )


class NarrowLadder(FeedForward):
    """writes += y(t) by two layers of dim + 2 units for each rung: papers A and B's network of bounded width.

    The hidden state is (clip, t, y), all of it at least 0, so that relu keeps it. The first layer is `up`, the last
    affine map `down`, and what lies between is stacked in `middle`.
    """

    def __init__(self, name: str, stream: Stream, reads: str, writes: str, rungs: Rungs) -> None:
        out = rungs.jumps.shape[1]
        dtype = rungs.scale.dtype
        if rungs.number == 0:
            # A constant function: one rung that leads nowhere.
            zero = torch.zeros(1, dtype=dtype)
            rungs = Rungs(zero, zero, torch.zeros(1, out, dtype=dtype), rungs.start)
        width, count = out + 2, rungs.number
        keep = torch.eye(width, dtype=dtype)
        # Odd layers: (relu(scale t - offset), t, y + jump * clip of the rung before). Even ones: (1 - it, t, y).
        middle = keep.repeat(2 * count - 1, 1, 1)
        bias = torch.zeros(2 * count - 1, width, dtype=dtype)
        middle[0::2, 0, 0], bias[0::2, 0] = -1, 1
        middle[1::2, 0, 0], middle[1::2, 0, 1], bias[1::2, 0] = 0, rungs.scale[1:], -rungs.offset[1:]
        middle[1::2, 2:, 0], bias[1::2, 2:] = -rungs.jumps[:-1], rungs.jumps[:-1]
        up = torch.zeros(width, 1, dtype=dtype)
        up[0, 0], up[1, 0] = rungs.scale[0], 1
        first = torch.cat([-rungs.offset[:1], torch.zeros(1, dtype=dtype), rungs.start])
        down = torch.cat([-rungs.jumps[-1][:, None], torch.zeros(out, 1, dtype=dtype), keep[2:, 2:]], dim=1)
        super().__init__(name, stream, [reads], [writes], up, first, down, rungs.jumps[-1])
        self.middle = nn.Parameter(middle, requires_grad=False)
        self.middle_bias = nn.Parameter(bias, requires_grad=False)

    @property
    def depth(self) -> int:
        """The number of relu layers."""
        return len(self.middle) + 1

    def forward(self, states: Float[Tensor, "*batch hidden"]) -> Float[Tensor, "*batch hidden"]:
        """The states after this pass; the same tensor, changed in place."""
        assert self.up_bias is not None
        read = self.stream.read(states, self.reads)
        # Inputs along columns: products of a matrix of 3 rows are several times faster that way.
        columns = torch.addmm(self.up_bias[:, None], self.up, read.reshape(1, -1)).relu_()
        for matrix, bias in zip(self.middle, self.middle_bias[..., None], strict=True):
            columns = torch.addmm(bias, matrix, columns).relu_()
        written = nn.functional.linear(columns.T, self.down, self.down_bias)
        self.stream.add(states, self.writes, written.reshape(*read.shape[:-1], -1))
        return states

    def weights(self) -> FeedForwardWeights:
        """The same function with one hidden layer: see `Ladder.weights`."""
        assert self.up_bias is not None
        assert self.down_bias is not None
        scale = torch.cat([self.up[:1, 0], self.middle[1::2, 0, 1]])
        offset = -torch.cat([self.up_bias[:1], self.middle_bias[1::2, 0]])
        jumps = torch.cat([self.middle_bias[1::2, 2:], self.down_bias[None]])
        return _one_layer(self, Rungs(scale, offset, jumps, self.up_bias[2:]))


def _one_layer(ladder: FeedForward, rungs: Rungs) -> FeedForwardWeights:
    stream, size = ladder.stream, ladder.stream.size
    up = rungs.scale.new_zeros(2 * rungs.number, size)
    up[:, stream.indices(ladder.reads)] = rungs.scale.repeat(2)[:, None]
    down = rungs.scale.new_zeros(size, 2 * rungs.number)
    writes = stream.indices(ladder.writes)
    down[writes] = torch.cat([rungs.jumps, -rungs.jumps]).T
    bias = rungs.scale.new_zeros(size)
    bias[writes] = rungs.start
    return FeedForwardWeights(up, down, "relu", -torch.cat([rungs.offset, rungs.offset + 1]), bias)
