"""The passes of `multilinear`, one function each, in the order and the notation of `interpolation`."""

import torch
from jaxtyping import Float
from torch import Tensor

from promptreach.compiler.parts import relu
from promptreach.compiler.parts.blocks import Attention, FeedForward
from promptreach.compiler.parts.stream import Stream
from promptreach.compiler.plan import Plan


def layout(plan: Plan) -> Stream:
    """The blocks of the stream."""
    dim, size = plan.dim, plan.dim * plan.tokens
    return Stream(
        input=dim,
        position=plan.tokens,
        ramps=dim * (plan.cells - 1),
        digit=dim,
        tilt=dim,
        filed=size,
        gathered=size,
        node=size,
        node_square=1,
        table=size,
        raw=dim,
        output=dim,
    )


def node_numbers(plan: Plan) -> Float[Tensor, "slots axes"]:
    """The numbers of all nodes, in the order of `points`."""
    axis = torch.arange(plan.cells + 1, dtype=plan.torch_dtype)
    return torch.cartesian_prod(*[axis] * (plan.tokens * plan.dim)).reshape(plan.slots, -1)


def tilt_table(plan: Plan) -> tuple[Float[Tensor, " knots"], Float[Tensor, " knots"]]:
    """Where the tilt bends, in [0, 1], and lambda + Lambda there: lambda equally far apart, the first height 0."""
    reach = plan.derived["reach"]
    levels = torch.linspace(-reach, reach, plan.derived["knots"], dtype=torch.float64)
    heights = levels + reach
    return torch.sigmoid(levels).to(plan.torch_dtype), heights.to(plan.torch_dtype)


def tilt(plan: Plan, stream: Stream) -> FeedForward:
    """lambda(t_a) + Lambda with t_a = m x_a - digit_a; 0 in prompt rows, whose t is 0."""
    bias, changes, _ = relu.piecewise_linear_units(*tilt_table(plan))
    one = torch.eye(plan.dim, dtype=bias.dtype)
    up = torch.cat([plan.cells * one, -one], dim=1).repeat_interleave(len(bias), dim=0)
    down = torch.block_diag(*[changes[None]] * plan.dim)  # type: ignore[no-untyped-call]
    return FeedForward("tilt", stream, ["input", "digit"], ["tilt"], up, bias.repeat(plan.dim), down)


def largest_filed(plan: Plan) -> int:
    """Above every 2 beta c + tilt, rounded or not: what shuts the gates of other positions."""
    return 2 * plan.derived["beta"] * plan.cells + 2 * plan.derived["reach"] + 1


def file(plan: Plan, stream: Stream) -> FeedForward:
    """2 beta digit + tilt, filed under the own position: relu(. - largest (1 - flag)), 0 under every other."""
    dim, tokens, dtype, largest = plan.dim, plan.tokens, plan.torch_dtype, float(largest_filed(plan))
    one = torch.eye(dim, dtype=dtype)
    own = torch.cat([2 * plan.derived["beta"] * one, one], dim=1).repeat(tokens, 1)
    gates = largest * torch.eye(tokens, dtype=dtype).repeat_interleave(dim, dim=0)
    bias = torch.full((tokens * dim,), -largest, dtype=dtype)
    up = torch.cat([own, gates], dim=1)
    return FeedForward("file", stream, ["digit", "tilt", "position"], ["filed"], up, bias, torch.ones_like(bias))


def gather(plan: Plan, stream: Stream) -> Attention:
    """What all tokens filed: content scores `apart`, slots 0, so each content token has the weight 1 / L."""
    tokens, dtype = plan.tokens, plan.torch_dtype
    size = tokens * plan.dim
    return Attention(
        "gather",
        stream,
        query_reads=["position"],
        key_reads=["position"],
        value_reads=["filed"],
        writes=["gathered"],
        query=torch.ones(1, tokens, dtype=dtype),
        key=torch.full((1, tokens), float(plan.derived["apart"]), dtype=dtype),
        value=torch.ones(size, dtype=dtype),
        output=torch.full((size,), float(tokens), dtype=dtype),
    )


def interpolate(plan: Plan, stream: Stream) -> Attention:
    """Scores sum_a n_a (2 beta c_a + lambda_a + beta) - beta n_a^2 at the slots, -apart at the content."""
    size, dtype = plan.tokens * plan.dim, plan.torch_dtype
    beta, reach, apart = (plan.derived[name] for name in ("beta", "reach", "apart"))
    query = torch.eye(size + 1, size, dtype=dtype)
    query_bias = torch.full((size + 1,), float(beta - reach), dtype=dtype)
    query_bias[-1] = 1
    key = torch.zeros(size + 1, size + 1 + plan.tokens, dtype=dtype)
    key[:size, :size] = torch.eye(size, dtype=dtype)
    key[-1, size], key[-1, size + 1 :] = -beta, -apart
    return Attention(
        "interpolate",
        stream,
        query_reads=["gathered"],
        key_reads=["node", "node_square", "position"],
        value_reads=["table"],
        writes=["table"],
        query=query,
        query_bias=query_bias,
        key=key,
        value=torch.ones(size, dtype=dtype),
        output=torch.ones(size, dtype=dtype),
    )


def pick(plan: Plan, stream: Stream) -> FeedForward:
    """raw_j = sum_i relu(table_ij - 2 (1 - flag_i)): the own token's entries."""
    dim, tokens, dtype = plan.dim, plan.tokens, plan.torch_dtype
    gates = 2 * torch.eye(tokens, dtype=dtype).repeat_interleave(dim, dim=0)
    up = torch.cat([torch.eye(tokens * dim, dtype=dtype), gates], dim=1)
    bias = torch.full((tokens * dim,), -2.0, dtype=dtype)
    down = torch.eye(dim, dtype=dtype).repeat(1, tokens)
    return FeedForward("pick", stream, ["table", "position"], ["raw"], up, bias, down)
