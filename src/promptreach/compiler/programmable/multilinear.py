"""The multilinear variant of `programmable`: a softmax that interpolates between the nodes of a grid.

Where f has bounded second derivatives, interpolating between grid nodes errs by the square of the cell instead of its
first power, so a far shorter table does. Softmax weights can be made the weights of interpolation: on one axis with
cell c and fraction t the scores -beta (n - c - 1/2)^2 + lambda (n - c - 1/2) single out the nodes c and c + 1 in the
proportion exp(lambda), which is (1 - t) : t for lambda = log(t / (1 - t)). Scores of several axes add, so the weights
multiply: multilinear interpolation. The passes, in order:

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
    Lambda    largest tilt, in nats; knots are equally far apart in lambda, from -Lambda to Lambda
    beta      sharpness: nodes other than c and c + 1 are lower by at least 2 beta - Lambda nats
"""

import torch
from jaxtyping import Float
from torch import Tensor

from promptreach.certificate import Assumption, Certificate, Evidence, Side
from promptreach.compiler.backbone import Backbone
from promptreach.compiler.parts import frozen, relu
from promptreach.compiler.parts.error_budget import EXP_UNITS
from promptreach.compiler.parts.grid import grid_refutations, ramp_edges
from promptreach.compiler.parts.sampling import sample_clause
from promptreach.compiler.plan import Plan
from promptreach.compiler.programmable import multilinear_layers as passes
from promptreach.compiler.programmable import programmable_layers as programmable_passes
from promptreach.compiler.programmable.multilinear_plan import ledger_of
from promptreach.compiler.target import TargetFunction
from promptreach.errors import Fault


class Multilinear(Backbone):
    """The backbone whose prompt holds a function at the nodes of a grid. See the module's notation."""

    def __init__(self, plan: Plan) -> None:
        self.starts = relu.thresholds(plan.cells, plan.ramp, plan.torch_dtype)
        stream = passes.layout(plan)
        super().__init__(
            plan,
            stream,
            [
                programmable_passes.ramps(plan, stream, self.starts),
                programmable_passes.steps(plan, stream),
                passes.tilt(plan, stream),
                passes.file(plan, stream),
                passes.gather(plan, stream),
                passes.interpolate(plan, stream),
                passes.pick(plan, stream),
                programmable_passes.clamp(plan, stream),
            ],
        )
        self.freeze()

    def points(self) -> Float[Tensor, "points tokens dim"]:
        """All nodes; the last axis of the last token varies fastest."""
        nodes = torch.arange(self.plan.cells + 1, dtype=torch.float64) / self.plan.cells
        axes = [nodes] * (self.plan.tokens * self.plan.dim)
        return torch.cartesian_prod(*axes).reshape(-1, self.plan.tokens, self.plan.dim)

    def rows(self, values: Float[Tensor, "points tokens dim"]) -> Float[Tensor, "prompt hidden"]:
        """A slot for each node: its numbers n_a, the sum of their squares, and the values there."""
        prompt = torch.zeros(self.plan.slots, self.stream.size, dtype=self.plan.torch_dtype)
        numbers = passes.node_numbers(self.plan)
        prompt[:, self.stream.blocks["node"]] = numbers
        prompt[:, self.stream.blocks["node_square"]] = numbers.square().sum(dim=1, keepdim=True)
        prompt[:, self.stream.blocks["table"]] = values.flatten(1).to(prompt.dtype)
        return prompt

    def refutations(
        self,
        target: TargetFunction,
        points: Float[Tensor, "points tokens dim"],
        values: Float[Tensor, "points tokens dim"],
    ) -> list[Fault]:
        """The steepest pair of neighbouring nodes, and the sharpest bend at a node, where they are too much."""
        faults = grid_refutations(target, points, values, self.plan.cells + 1)
        if target.curvature is not None and not 0 <= target.curvature <= self.curvature:
            expected = f"0 to {self.curvature:g}, for which the backbone was built"
            faults.append(Fault(target.name, f"declared curvature {target.curvature:g}", expected))
        return faults + bend_faults(target, points, values, self.plan.cells + 1, self.curvature)

    def edges(self) -> Float[Tensor, " edges"]:
        """Both ends of every ramp, and 0 and 1."""
        return ramp_edges(self.starts, self.plan.ramp)

    @property
    def curvature(self) -> float:
        """The largest second derivative along an axis that the backbone was built for."""
        return float(self.plan.options["curvature"])

    def prompt_faults(self, embeddings: Float[Tensor, "prompt hidden"]) -> list[Fault]:
        """What keeps the rows from being nodes with entries in [0, 1]."""
        frame = self.rows(torch.zeros(self.plan.slots, self.plan.tokens, self.plan.dim, dtype=torch.float64))
        return frozen.frame_faults(embeddings, frame, self.stream.blocks["table"])

    def _certificate(
        self, embeddings: Float[Tensor, "prompt hidden"], lipschitz: float, everywhere: bool
    ) -> Certificate:
        part = "sup" if everywhere else "mean"
        curvature, shape = self.curvature, f"[0,1]^({self.plan.tokens} x {self.plan.dim})"
        ledger = ledger_of(self.plan, lipschitz, curvature)
        sampled = sample_clause(self.plan.tokens * self.plan.dim * len(self.starts) * self.plan.ramp * 5 / 4)
        what = {
            "mean": "the root of the mean of |backbone(X) - f(X)|^2 over X uniform in the cube is at most value. "
            + sampled.removesuffix("."),
            "sup": "|backbone(X) - f(X)| is at most value at every X with no coordinate inside a ramp",
        }[part]
        return Certificate(
            claim=(
                f"For every f from {shape} into itself with |f(X) - f(X')| <= {lipschitz:g} |X - X'| and every second "
                f"derivative along an axis at most {curvature:g} long, whose values at the nodes round to the table in "
                f"the prompt's rows, {what}. 2-norms over all entries; X is rounded to {self.plan.dtype} first; "
                f"arithmetic is IEEE {self.plan.dtype} with an exponential right to {EXP_UNITS} units in the last "
                "place."
            ),
            value=ledger.sup if everywhere else ledger.mean,
            side=Side.UPPER,
            evidence=Evidence.PROVED,
            assumptions=(
                Assumption("slots are numbered and hold entries in [0, 1]", True, "looked at each row"),
                Assumption("the passes are those of the construction", True, "weights compared; recheck reads each"),
            ),
            theorem="programmable-interpolation",
            witness={
                "part": part,
                "lipschitz": lipschitz,
                "curvature": curvature,
                "dim": self.plan.dim,
                "tokens": self.plan.tokens,
                "cells": self.plan.cells,
                "dtype": self.plan.dtype,
                "weights": {name: tensor.detach() for name, tensor in self.state_dict().items()},
                "prompt": embeddings,
            },
            checker="compiler.programmable.multilinear_recheck:recheck_interpolation",
        )


def bend_faults(
    target: TargetFunction,
    points: Float[Tensor, "points tokens dim"],
    values: Float[Tensor, "points tokens dim"],
    nodes: int,
    curvature: float,
) -> list[Fault]:
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
