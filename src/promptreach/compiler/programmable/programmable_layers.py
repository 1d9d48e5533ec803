"""The passes of `programmable`, one function each, in the order and the notation of that module."""

import torch
from jaxtyping import Float
from torch import Tensor

from promptreach.compiler.parts import relu
from promptreach.compiler.parts.blocks import Attention, FeedForward
from promptreach.compiler.parts.stream import Stream
from promptreach.compiler.plan import Plan


def layout(plan: Plan) -> Stream:
    """The blocks of the stream."""
    dim, tokens, cells = plan.dim, plan.tokens, plan.cells
    contexts = cells ** (dim * (tokens - 1))
    return Stream(
        input=dim,
        position=tokens,
        ramps=dim * (cells - 1),
        digit=dim,
        square=1,
        filed=tokens * dim,
        slot=1,
        slot_square=1,
        gathered=tokens * dim,
        context=(tokens - 1) * dim,
        row=contexts * dim,
        raw=dim,
        output=dim,
    )


def ramps(plan: Plan, stream: Stream, starts: Float[Tensor, " inner"]) -> FeedForward:
    """h_ak = relu((x_a - t_k) / eta), for every axis a and inner edge k."""
    up, bias = relu.ramp_units(starts, plan.ramp, plan.dim)
    return FeedForward("ramps", stream, ["input"], ["ramps"], up, bias, torch.ones(len(up), dtype=up.dtype))


def steps(plan: Plan, stream: Stream) -> FeedForward:
    """digit_a = number of edges passed on axis a; 0 in prompt rows, whose input is 0."""
    up, bias, down, down_bias = relu.step_units(plan.cells - 1, plan.dim, plan.torch_dtype)
    return FeedForward("steps", stream, ["ramps"], ["digit"], up, bias, down, down_bias)


def slot_numbers(plan: Plan) -> Float[Tensor, " slots"]:
    """n, from -o upward: the slot of position i and own cell c is number i K + c - o."""
    return torch.arange(plan.slots, dtype=plan.torch_dtype) - plan.slots // 2


def _address_row(plan: Plan) -> Float[Tensor, " read"]:
    """u + o = position K + sum_a digit_a m^a as a linear form on the blocks digit and position."""
    places = [plan.cells**axis for axis in reversed(range(plan.dim))]
    positions = [position * plan.cells**plan.dim for position in range(plan.tokens)]
    return torch.tensor([*places, *positions], dtype=plan.torch_dtype)


def address(plan: Plan, stream: Stream) -> FeedForward:
    """u^2, and each digit filed under the own position: relu(digit - m (1 - flag)), 0 under every other."""
    dim, tokens, cells, dtype = plan.dim, plan.tokens, plan.cells, plan.torch_dtype
    square_bias, square_down, square_left = relu.square_units(plan.slots, plan.slots // 2, dtype)
    own = _address_row(plan).expand(len(square_bias), -1)
    filed = torch.zeros(tokens * dim, dim + tokens, dtype=dtype)
    for position in range(tokens):
        for axis in range(dim):
            filed[position * dim + axis, axis] = 1
            filed[position * dim + axis, dim + position] = cells
    bias = torch.cat([square_bias, torch.full((tokens * dim,), -float(cells), dtype=dtype)])
    down = torch.block_diag(square_down[None], torch.eye(tokens * dim, dtype=dtype))  # type: ignore[no-untyped-call]
    down_bias = torch.zeros(len(down), dtype=dtype)
    down_bias[0] = square_left
    return FeedForward(
        "address", stream, ["digit", "position"], ["square", "filed"], torch.cat([own, filed]), bias, down, down_bias
    )


def lookup(plan: Plan, stream: Stream) -> Attention:
    """The own slot's row and all tokens' digits, each times 1 / (L + 1), which the output undoes."""
    dim, tokens, dtype = plan.dim, plan.tokens, plan.torch_dtype
    beta = plan.sharpness
    query = torch.zeros(3, dim + tokens + 1, dtype=dtype)
    query[0, : dim + tokens] = _address_row(plan)
    query[2, -1] = 1
    key = torch.zeros(3, 2 + tokens, dtype=dtype)
    key[0, 0], key[1, 1], key[2, 2:] = 2 * beta, -beta, beta
    width = stream.width("filed", "row")
    return Attention(
        "lookup",
        stream,
        query_reads=["digit", "position", "square"],
        key_reads=["slot", "slot_square", "position"],
        value_reads=["filed", "row"],
        writes=["gathered", "row"],
        query=query,
        query_bias=torch.tensor([-(plan.slots // 2), 1, 0], dtype=dtype),
        key=key,
        value=torch.ones(width, dtype=dtype),
        output=torch.full((width,), tokens + 1.0, dtype=dtype),
    )


def context(plan: Plan, stream: Stream) -> FeedForward:
    """The other tokens' digits in order: relu(gathered_j - m (1 - flag_i)) for every i and j != i."""
    dim, tokens, dtype = plan.dim, plan.tokens, plan.torch_dtype
    others = (tokens - 1) * dim
    up = torch.zeros(tokens * others, tokens * dim + tokens, dtype=dtype)
    down = torch.zeros(others, tokens * others, dtype=dtype)
    for position in range(tokens):
        gathered = [other * dim + axis for other in range(tokens) if other != position for axis in range(dim)]
        for place, source in enumerate(gathered):
            unit = position * others + place
            up[unit, source], up[unit, tokens * dim + position], down[place, unit] = 1, plan.cells, 1
    bias = torch.full((len(up),), -float(plan.cells), dtype=dtype)
    return FeedForward("context", stream, ["gathered", "position"], ["context"], up, bias, down)


def select(plan: Plan, stream: Stream) -> FeedForward:
    """Lower every entry of the row by 4 or more for each digit of its context that is not the one at hand."""
    dim, cells, dtype = plan.dim, plan.cells, plan.torch_dtype
    others = (plan.tokens - 1) * dim
    up, bias, down = relu.mismatch_units(cells, dtype)
    wide_up = torch.block_diag(*[up[:, None]] * others)  # type: ignore[no-untyped-call]
    # Entry (context, j) of the row watches, for each digit place, the number that its context has there.
    numbers = torch.cartesian_prod(*[torch.arange(cells)] * others).reshape(-1, others)
    watched = torch.cat([down[numbers[:, place]] for place in range(others)], dim=1)
    return FeedForward(
        "select", stream, ["context"], ["row"], wide_up, bias.repeat(others), -watched.repeat_interleave(dim, dim=0)
    )


def read(plan: Plan, stream: Stream) -> FeedForward:
    """raw_j = sum over contexts of relu(row entry): the one entry that was not lowered."""
    width = stream.width("row")
    down = torch.eye(plan.dim, dtype=plan.torch_dtype).repeat(1, width // plan.dim)
    return FeedForward("read", stream, ["row"], ["raw"], torch.ones(width, dtype=down.dtype), None, down)


def clamp(plan: Plan, stream: Stream) -> FeedForward:
    """output = 1 - relu(1 - raw) = min(raw, 1), and raw >= 0: also inside the ramps the output is in the cube."""
    ones = torch.ones(plan.dim, dtype=plan.torch_dtype)
    return FeedForward("clamp", stream, ["raw"], ["output"], -ones, ones, -ones, ones)
