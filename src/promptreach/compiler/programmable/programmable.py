"""One frozen transformer, one head, one attention layer: the prompt is its program.

The cube [0,1]^(tokens x dim) is cut into cells^(tokens dim) boxes; the prompt is the table of a function's values at
their centres, one slot for each cell of one token, and the transformer looks the right entry up. The layers, in order:

    ramps     relu ramps at the inner edges of the cells of each axis
    steps     the number of edges passed: the digit of each axis, a whole number outside the ramps
    address   own number u = position K + sum_a digit_a m^a - o, u^2, and the digits filed under the own position
    lookup    softmax attention: the slot numbered u and the content tokens share one score, every other slot is lower
    context   of all gathered digits, those of the other tokens, in order
    select    lower every entry of the row whose context is another one
    read      the sum of what is left above 0
    clamp     into [0, 1]

Notation
    letter    meaning                                        paper B
    m         cells along each axis                          1 / delta
    K         m^dim, cells of one token                      |V|
    L         tokens                                         L
    w         K^(L-1), contexts of one token
    beta      sharpness of the lookup, in nats
    eta       width of a ramp
    o         half of L K, rounded down: numbers of slots run from -o, which keeps scores small

Scores are whole numbers: query (u, 1, u^2) against prompt keys (2 beta n, -beta n^2, 0) and content keys (0, 0, beta)
gives beta u^2 - beta (u - n)^2 and beta u^2, exactly, while 3 beta o^2 < 2^53. So all is exact but the softmax.
"""

import math
from fractions import Fraction

import torch
from jaxtyping import Float
from torch import Tensor

from promptreach.compiler.parts import relu
from promptreach.compiler.parts.blocks import Attention, FeedForward, Projection, Stream
from promptreach.compiler.parts.grid import cell_centres, cell_radius
from promptreach.compiler.plan import Plan, Question, SizeComparison
from promptreach.compiler.programmable._table import PromptTable, fewest_cells, table_plan
from promptreach.compiler.programmable.error_budget import ErrorBudget, table_budget
from promptreach.compiler.target import Points
from promptreach.covering import covering_length_log10
from promptreach.rounding import EXACT_UNIT

SHARE = 1 / 1000
"""The part of tol that the softmax leak may take."""


def plan(dim: int, tokens: int, lipschitz: float, tol: float, dtype: str) -> Plan:
    """The sizes that make the certificate at most `tol`; `bound` stays above it where `dtype` allows none."""
    question = Question("programmable", dim, tokens, lipschitz, tol, dtype)
    coarsest = max(1, math.ceil(lipschitz * math.sqrt(question.size / 12) / tol))
    # Sampling, ramps and rounding need a little room beside the cells, more of it in float32.
    cells = (coarsest + extra + coarsest * extra // 50 for extra in range(20))
    return fewest_cells(cells, lambda count: _sized(question, count), _planned_bound)


def _planned_bound(plan: Plan) -> float:
    # Cells at the two ends lose half a ramp less; half a cell and the rounding of centre and edge cover all.
    radius = Fraction(1, 2 * plan.cells) + 2 * EXACT_UNIT[plan.dtype]
    return table_budget(plan, plan.lipschitz, radius, int(plan.sharpness)).mean


def _sized(question: Question, cells: int) -> Plan:
    """The plan with so many cells, at the lowest sharpness whose leak keeps its share."""
    _, dim, tokens, lipschitz, tol, _ = question
    contexts, others, size = cells ** (dim * (tokens - 1)), (tokens - 1) * dim, question.size
    slots, units, row = tokens * cells**dim, dim * (cells - 1), contexts * dim
    own = {
        "address": (slots - 1 + size) * (dim + tokens + 2 + size) + 1 + size,
        "lookup": 3 * (dim + tokens + 1) + 3 + 3 * (2 + tokens) + 2 * (size + row),
    }
    if tokens > 1:
        own["context"] = tokens * others * (size + tokens + 1 + others)
        own["select"] = 2 * cells * others * (others + 1 + row)
    own["read"] = row * (1 + dim)
    leak_share = min(SHARE * tol / math.sqrt(size), 1 / (32 * cells))
    widths = [units, units, slots - 1 + size, tokens * others, 2 * cells * others, row]
    pairs = dim * (10 ** min(covering_length_log10(dim, tokens, lipschitz, tol), 300) + tokens)
    source = "Hu et al. 2025, Theorem 2.3, without its constant"
    achieved = math.log10(max(sum(widths), 1))
    return table_plan(
        question,
        _stream(dim, tokens, cells),
        own,
        cells=cells,
        slots=slots,
        width=max(widths),
        moved=size + row + 20,
        evaluations=cells**size,
        sharpness=float(max(math.ceil(-math.log(leak_share / 2.5)), 2)),
        compared=(SizeComparison("relu units", source, pairs * max(-math.log10(tol), 0), achieved),),
    )


def _stream(dim: int, tokens: int, cells: int) -> Stream:
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
        row=cells ** (dim * (tokens - 1)) * dim,
        raw=dim,
        output=dim,
    )


class Programmable(PromptTable):
    """The backbone whose prompt is a table of the function. See the module's notation."""

    table = "row"
    checker = "compiler.programmable.programmable_recheck:recheck_programmable"

    def __init__(self, plan: Plan) -> None:
        stream = _stream(plan.dim, plan.tokens, plan.cells)
        several = [context(plan, stream), select(plan, stream)] if plan.tokens > 1 else []
        super().__init__(plan, stream, [address(plan, stream), lookup(plan, stream), *several, read(plan, stream)])

    def axis(self) -> Float[Tensor, " points"]:
        """The centre of each cell."""
        return cell_centres(self.plan.cells)

    def rows(self, values: Points) -> Float[Tensor, "prompt hidden"]:
        """Slot n: n, n^2, and the values of the token at its position and cell in every context."""
        tokens, dim, own = self.plan.tokens, self.plan.dim, self.plan.cells**self.plan.dim
        table = values.reshape(*[own] * tokens, tokens, dim)
        prompt = torch.zeros(self.plan.slots, self.stream.size, dtype=self.plan.torch_dtype)
        numbers = torch.arange(self.plan.slots, dtype=prompt.dtype) - self.plan.slots // 2
        prompt[:, self.stream.blocks["slot"]] = numbers[:, None]
        prompt[:, self.stream.blocks["slot_square"]] = numbers[:, None] ** 2
        for token in range(tokens):
            entries = table[..., token, :].movedim(token, 0).reshape(own, -1)
            prompt[token * own : (token + 1) * own, self.stream.blocks["row"]] = entries.to(prompt.dtype)
        return prompt

    def budget(self, lipschitz: float) -> ErrorBudget:
        """The items of the certificate, from the thresholds and keys that stand in the weights."""
        head = next(item for item in self.order if isinstance(item, Attention))
        radius = cell_radius(self.starts, self.plan.ramp, self.axis(), EXACT_UNIT[self.plan.dtype])
        return table_budget(self.plan, lipschitz, radius, int(head.key[2, -1]))


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
    filed, filed_bias = relu.gated_units(torch.eye(dim, dtype=dtype).repeat(tokens, 1), tokens, cells)
    bias = torch.cat([square_bias, filed_bias])
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
        query=Projection(["digit", "position", "square"], query, torch.tensor([-(plan.slots // 2), 1, 0], dtype=dtype)),
        key=Projection(["slot", "slot_square", "position"], key),
        value=Projection(["filed", "row"], torch.ones(width, dtype=dtype)),
        output=Projection(["gathered", "row"], torch.full((width,), tokens + 1.0, dtype=dtype)),
    )


def context(plan: Plan, stream: Stream) -> FeedForward:
    """The other tokens' digits in order: relu(gathered_j - m (1 - flag_i)) for every i and j != i."""
    dim, tokens, dtype = plan.dim, plan.tokens, plan.torch_dtype
    digits = torch.eye(tokens * dim, dtype=dtype)
    token = torch.arange(tokens).repeat_interleave(dim)
    up, bias = relu.gated_units(torch.cat([digits[token != own] for own in range(tokens)]), tokens, plan.cells)
    down = torch.eye((tokens - 1) * dim, dtype=dtype).repeat(1, tokens)
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
