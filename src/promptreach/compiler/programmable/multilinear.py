"""The multilinear variant of `programmable`: a softmax that interpolates between the nodes of a grid.

Where f has bounded second derivatives, interpolating between grid nodes errs by the square of the cell instead of its
first power, so a far shorter table does. Softmax weights can be made the weights of interpolation: on one axis with
cell c and fraction t the scores -beta (n - c - 1/2)^2 + lambda (n - c - 1/2) single out the nodes c and c + 1 in the
proportion exp(lambda), which is (1 - t) : t for lambda = log(t / (1 - t)). Scores of several axes add, so the weights
multiply: multilinear interpolation. The layers, in order:

    ramps, steps   as in `programmable`: the digit c of each axis
    tilt           lambda(t) + Lambda for t = m x - c, piecewise linear between knots, never below 0
    file           2 beta c + tilt, filed under the own position
    gather         attention over the content alone: every token gets the numbers of all tokens
    interpolate    attention over the slots alone: one slot a node of the grid of all tokens, weights as above
    pick           of the interpolated outputs of all tokens, the own one
    clamp          into [0, 1]

Notation
    letter    meaning
    m         cells along each axis; nodes are 0..m
    s         tokens * dim, the number of axes
    Lambda    largest tilt of scores towards c + 1, in whole nats (`reach`); knots of lambda are equally far apart
    beta      sharpness: nodes other than c and c + 1 are lower by at least 2 beta - Lambda nats
    apart     how far scores of rows that must not be seen stay below the others, in nats
"""

import itertools
import math
from collections.abc import Sequence
from fractions import Fraction
from numbers import Real

import torch
from jaxtyping import Float
from torch import Tensor

from promptreach.compiler.parts import relu
from promptreach.compiler.parts.blocks import Attention, FeedForward, Projection, Stream, own_entries
from promptreach.compiler.plan import EXTREME, Plan, Question
from promptreach.compiler.programmable._table import PromptTable, fewest_cells, table_plan
from promptreach.compiler.programmable.error_budget import ErrorBudget, interpolation_budget
from promptreach.compiler.target import Points, TargetFunction
from promptreach.errors import Fault, InputError

_WEIGHT_SHARE = 1 / 50
"""The part of tol that the piecewise-linear logit may take; leaks take less than a thousandth."""


def plan(
    dim: int, tokens: int, lipschitz: float, tol: float, dtype: str, curvature: float | int | str = math.nan
) -> Plan:
    """The sizes that make the certificate at most `tol` for functions with second derivatives of at most `curvature`.

    Raises:
        InputError: without a curvature, or with one that is negative or infinite.
    """
    if not isinstance(curvature, Real) or isinstance(curvature, bool) or not 0 <= curvature <= EXTREME:
        expected = f"a finite bound, 0 to {EXTREME:g}, on |d^2 f / dx_a^2| for every axis a"
        raise InputError(Fault("curvature", repr(curvature), expected))
    question, bend = Question("multilinear", dim, tokens, lipschitz, tol, dtype), float(curvature)
    size = question.size
    coarsest = max(1, math.ceil(math.sqrt(curvature / 2 * math.sqrt(size / 30 + size * (size - 1) / 36) / tol)))
    cells = (coarsest + extra + coarsest * extra // 50 for extra in range(10))
    return fewest_cells(
        cells, lambda count: _sized(question, bend, count), lambda plan: budget_of(plan, lipschitz).mean
    )


def _sized(question: Question, curvature: float, cells: int) -> Plan:
    """The plan with so many cells, its bound left open."""
    _, dim, tokens, lipschitz, tol, _ = question
    size = question.size
    slots = (cells + 1) ** size
    # sigma of a chord errs by at most (step^2 / 8) / (6 sqrt 3), and beyond the ends by sigma(-Lambda).
    weight_error = min(max(_WEIGHT_SHARE * tol * cells / (size * lipschitz), 1e-9), 0.05) if lipschitz else 0.05
    reach = math.ceil(-math.log(weight_error))
    knots = 2 * math.ceil(reach / math.sqrt(weight_error * 48 * math.sqrt(3))) + 1
    leaks = 9 + 1.5 * math.log(size) - math.log(min(tol, 1.0))
    beta = max(math.ceil((reach + leaks) / 2), reach)
    # Rows that must not be seen multiply numbers up to 2 beta m on their way into scores of up to m of them.
    apart = math.ceil(leaks + size * math.log(cells + 1) + 2 * math.log(4 * beta * cells * size) + math.log(cells))
    own = {
        "tilt": dim * knots * (3 * dim + 1),
        "file": size * (2 * dim + tokens + 2),
        "gather": 2 * tokens + 2 * size,
        "interpolate": (size + 1) * (2 * size + tokens + 2) + 2 * size,
        "pick": size * (size + tokens + 1 + dim),
    }
    return table_plan(
        question,
        _stream(dim, tokens, cells),
        own,
        cells=cells,
        slots=slots,
        width=max(dim * knots, size),
        moved=2 * size + 20,
        evaluations=slots,
        sharpness=float(2 * beta - reach),
        options={"curvature": curvature},
        derived={"beta": beta, "reach": reach, "apart": apart, "knots": knots},
    )


def budget_of(plan: Plan, lipschitz: float) -> ErrorBudget:
    """The items of the certificate for functions with this Lipschitz constant."""
    knots, heights = tilt_table(plan)
    _, changes, _ = relu.piecewise_linear_units(knots, heights)
    if not bool(changes.isfinite().all()):
        return ErrorBudget(certain=False)  # knots that the dtype cannot tell apart
    turns = [Fraction(change) for change in changes.tolist()]
    found = tilt_heights([Fraction(knot) for knot in knots.tolist()], turns)
    return interpolation_budget(plan, lipschitz, knots.tolist(), found, sum(map(abs, turns), start=Fraction(0)))


def tilt_heights(knots: Sequence[Fraction], turns: Sequence[Fraction]) -> list[Fraction]:
    """The tilt that these changes of its slope make, exactly: at each knot, and at 1."""
    heights, slope = [Fraction(0)], Fraction(0)
    for turn, (left, right) in zip(turns, itertools.pairwise([*knots, Fraction(1)]), strict=True):
        slope += turn
        heights.append(heights[-1] + slope * (right - left))
    return heights


def _stream(dim: int, tokens: int, cells: int) -> Stream:
    size = dim * tokens
    return Stream(
        input=dim,
        position=tokens,
        ramps=dim * (cells - 1),
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


class Multilinear(PromptTable):
    """The backbone whose prompt holds a function at the nodes of a grid. See the module's notation."""

    table = "table"
    checker = "compiler.programmable.multilinear_recheck:recheck_interpolation"

    def __init__(self, plan: Plan) -> None:
        stream = _stream(plan.dim, plan.tokens, plan.cells)
        own = own_entries("pick", stream, "table", "raw", 2, plan.torch_dtype)
        super().__init__(plan, stream, [*(make(plan, stream) for make in (tilt, file, gather, interpolate)), own])

    @property
    def curvature(self) -> float:
        """The largest second derivative along an axis that the backbone was built for."""
        return float(self.plan.options["curvature"])

    def axis(self) -> Float[Tensor, " points"]:
        """The nodes, both ends included."""
        return torch.arange(self.plan.cells + 1, dtype=torch.float64) / self.plan.cells

    def rows(self, values: Points) -> Float[Tensor, "prompt hidden"]:
        """A slot for each node: its numbers n_a, the sum of their squares, and the values there."""
        prompt = torch.zeros(self.plan.slots, self.stream.size, dtype=self.plan.torch_dtype)
        axis = torch.arange(self.plan.cells + 1, dtype=prompt.dtype)
        numbers = torch.cartesian_prod(*[axis] * (self.plan.tokens * self.plan.dim)).reshape(self.plan.slots, -1)
        prompt[:, self.stream.blocks["node"]] = numbers
        prompt[:, self.stream.blocks["node_square"]] = numbers.square().sum(dim=1, keepdim=True)
        prompt[:, self.stream.blocks["table"]] = values.flatten(1).to(prompt.dtype)
        return prompt

    def refutations(self, target: TargetFunction, points: Points, values: Points) -> list[Fault]:
        """The steepest pair of neighbouring nodes, and the sharpest bend at a node, where they are too much."""
        faults = super().refutations(target, points, values)
        if target.curvature is not None and not 0 <= target.curvature <= self.curvature:
            expected = f"0 to {self.curvature:g}, for which the backbone was built"
            faults.append(Fault(target.name, f"declared curvature {target.curvature:g}", expected))
        return faults + bend_faults(target, points, values, self.plan.cells + 1, self.curvature)

    def budget(self, lipschitz: float) -> ErrorBudget:
        """The items of the certificate."""
        return budget_of(self.plan, lipschitz)


def bend_faults(target: TargetFunction, points: Points, values: Points, nodes: int, curvature: float) -> list[Fault]:
    """The second difference along some axis that no function of this curvature has, if any."""
    size, step = target.tokens * target.dim, 1 / (nodes - 1)
    shape = (*[nodes] * size, target.tokens * target.dim)
    grid, table = points.reshape(shape), values.reshape(shape)
    for axis in range(size if nodes > 2 else 0):
        left, middle, right = (table.narrow(axis, start, nodes - 2) for start in range(3))
        bends = (left - 2 * middle + right).norm(dim=-1) / step**2
        worst = int(bends.argmax())
        # Four roundings of values up to 1 could pass for this much.
        if float(bends.flatten()[worst]) > curvature * (1 + 1e-9) + 1e-14 / step**2:
            where = grid.narrow(axis, 1, nodes - 2).reshape(-1, size)[worst].tolist()
            seen = f"second difference {float(bends.flatten()[worst]):.4g} along axis {axis} at {where}"
            return [Fault(target.name, seen, f"at most the declared curvature {curvature:g}")]
    return []


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


def file(plan: Plan, stream: Stream) -> FeedForward:
    """2 beta digit + tilt, filed under the own position: relu(. - largest (1 - flag)), 0 under every other."""
    # Above every number that is filed, rounded or not.
    largest = 2 * plan.derived["beta"] * plan.cells + 2 * plan.derived["reach"] + 1
    one = torch.eye(plan.dim, dtype=plan.torch_dtype)
    own = torch.cat([2 * plan.derived["beta"] * one, one], dim=1).repeat(plan.tokens, 1)
    up, bias = relu.gated_units(own, plan.tokens, largest)
    return FeedForward("file", stream, ["digit", "tilt", "position"], ["filed"], up, bias, torch.ones_like(bias))


def gather(plan: Plan, stream: Stream) -> Attention:
    """What all tokens filed: content scores `apart`, slots 0, so each content token has the weight 1 / L."""
    tokens, dtype = plan.tokens, plan.torch_dtype
    size = tokens * plan.dim
    return Attention(
        "gather",
        stream,
        query=Projection(["position"], torch.ones(1, tokens, dtype=dtype)),
        key=Projection(["position"], torch.full((1, tokens), float(plan.derived["apart"]), dtype=dtype)),
        value=Projection(["filed"], torch.ones(size, dtype=dtype)),
        output=Projection(["gathered"], torch.full((size,), float(tokens), dtype=dtype)),
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
        query=Projection(["gathered"], query, query_bias),
        key=Projection(["node", "node_square", "position"], key),
        value=Projection(["table"], torch.ones(size, dtype=dtype)),
        output=Projection(["table"], torch.ones(size, dtype=dtype)),
    )
