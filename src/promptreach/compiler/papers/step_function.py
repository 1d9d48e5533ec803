"""A step function of one number as a relu network: how papers A and B turn the id of a context into an output.

Both forms compute, for a number t and whole numbers y,

    y(t) = start + sum_n jump_n clip(scale_n t - offset_n),      clip(z) = min(max(z, 0), 1) = 1 - relu(1 - relu(z)),

one jump for each id at which the output changes. The wide form has two hidden layers with one unit for each jump; the
narrow form has two layers for each jump, of dim + 2 units: (clip, t, y), papers A and B's trade of width for depth.
Jumps are disjoint and ordered, so at most one clip is neither 0 nor 1, and y(t) lies between neighbouring heights at
every t. Off the ramps all sums are of whole numbers below 2^24, hence exact in both forms.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from promptreach.compiler.parts.blocks import FeedForward, Stream


class StepFunction(NamedTuple):
    """A step function: see the module.

    Attributes:
        scale, offset: each jump climbs from 0 to 1 as scale t - offset does.
        jumps: whole numbers.
        start: the height left of all jumps, whole numbers that are not negative, like all heights.
    """

    scale: Float[Tensor, " jumps"]
    offset: Float[Tensor, " jumps"]
    jumps: Float[Tensor, "jumps out"]
    start: Float[Tensor, " out"]

    @property
    def number(self) -> int:
        return len(self.scale)


def changes(heights: Shaped[Tensor, "ids out"]) -> Int[Tensor, " jumps"]:
    """Where a list of heights differs from its successor: the jumps that it needs."""
    return (heights[1:] != heights[:-1]).any(dim=1).nonzero()[:, 0]


class WideSteps(FeedForward):
    """writes += y(t) by two hidden layers of one unit for each jump, t being the block that is read (t >= 0)."""

    def __init__(self, name: str, stream: Stream, reads: str, writes: str, staircase: StepFunction) -> None:
        super().__init__(
            name,
            stream,
            [reads],
            [writes],
            staircase.scale[:, None],
            -staircase.offset,
            -staircase.jumps.T.contiguous(),
            staircase.start + staircase.jumps.sum(dim=0),
        )

    def forward(self, states: Float[Tensor, "*batch hidden"]) -> Float[Tensor, "*batch hidden"]:
        """The states after this layer; the same tensor, changed in place."""
        climbed = nn.functional.linear(self.stream.read(states, self.reads), self.up, self.up_bias).relu_()
        below = climbed.neg_().add_(1).relu_()
        self.stream.add(states, self.writes, nn.functional.linear(below, self.down, self.down_bias))
        return states


class NarrowSteps(FeedForward):
    """writes += y(t) by two layers of dim + 2 units for each jump: papers A and B's network of bounded width.

    The hidden state is (clip, t, y), all of it at least 0, so that relu keeps it. The first layer is `up`, the last
    affine map `down`, and what lies between is stacked in `middle`.
    """

    def __init__(self, name: str, stream: Stream, reads: str, writes: str, staircase: StepFunction) -> None:
        out = staircase.jumps.shape[1]
        dtype = staircase.scale.dtype
        if staircase.number == 0:
            # A constant function: one jump that leads nowhere.
            zero = torch.zeros(1, dtype=dtype)
            staircase = StepFunction(zero, zero, torch.zeros(1, out, dtype=dtype), staircase.start)
        width, count = out + 2, staircase.number
        keep = torch.eye(width, dtype=dtype)
        # Odd layers: (relu(scale t - offset), t, y + jump * clip of the jump before). Even ones: (1 - it, t, y).
        middle = keep.repeat(2 * count - 1, 1, 1)
        bias = torch.zeros(2 * count - 1, width, dtype=dtype)
        middle[0::2, 0, 0], bias[0::2, 0] = -1, 1
        middle[1::2, 0, 0], middle[1::2, 0, 1], bias[1::2, 0] = 0, staircase.scale[1:], -staircase.offset[1:]
        middle[1::2, 2:, 0], bias[1::2, 2:] = -staircase.jumps[:-1], staircase.jumps[:-1]
        up = torch.zeros(width, 1, dtype=dtype)
        up[0, 0], up[1, 0] = staircase.scale[0], 1
        first = torch.cat([-staircase.offset[:1], torch.zeros(1, dtype=dtype), staircase.start])
        down = torch.cat([-staircase.jumps[-1][:, None], torch.zeros(out, 1, dtype=dtype), keep[2:, 2:]], dim=1)
        super().__init__(name, stream, [reads], [writes], up, first, down, staircase.jumps[-1])
        self.middle = nn.Parameter(middle, requires_grad=False)
        self.middle_bias = nn.Parameter(bias, requires_grad=False)

    def forward(self, states: Float[Tensor, "*batch hidden"]) -> Float[Tensor, "*batch hidden"]:
        """The states after this layer; the same tensor, changed in place."""
        assert self.up_bias is not None
        read = self.stream.read(states, self.reads)
        # Inputs along columns: products of a matrix of 3 rows are several times faster that way.
        columns = torch.addmm(self.up_bias[:, None], self.up, read.reshape(1, -1)).relu_()
        for matrix, bias in zip(self.middle, self.middle_bias[..., None], strict=True):
            columns = torch.addmm(bias, matrix, columns).relu_()
        written = nn.functional.linear(columns.T, self.down, self.down_bias)
        self.stream.add(states, self.writes, written.reshape(*read.shape[:-1], -1))
        return states
