"""One frozen transformer, one head, one attention layer: the prompt is its program.

The cube [0,1]^(tokens x dim) is cut into cells^(tokens dim) boxes; the prompt is the table of a function's values at
their centres, one slot for each cell of one token, and the transformer looks the right entry up. The passes, in order:

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

import torch
from jaxtyping import Float
from torch import Tensor

from promptreach import rounding
from promptreach.certificate import Assumption, Certificate, Evidence, Side
from promptreach.compiler.backbone import Backbone
from promptreach.compiler.parts import frozen, relu
from promptreach.compiler.parts.blocks import Attention
from promptreach.compiler.parts.error_budget import EXP_UNITS, Ledger, table_ledger
from promptreach.compiler.parts.grid import cell_radius, grid_refutations, ramp_edges
from promptreach.compiler.parts.sampling import sample_clause
from promptreach.compiler.plan import Plan
from promptreach.compiler.programmable import programmable_layers as passes
from promptreach.compiler.target import TargetFunction
from promptreach.errors import Fault


class Programmable(Backbone):
    """The backbone whose prompt is a table of the function. See the module's notation."""

    def __init__(self, plan: Plan) -> None:
        self.starts = relu.thresholds(plan.cells, plan.ramp, plan.torch_dtype)
        stream = passes.layout(plan)
        several = [passes.context(plan, stream), passes.select(plan, stream)] if plan.tokens > 1 else []
        super().__init__(
            plan,
            stream,
            [
                passes.ramps(plan, stream, self.starts),
                passes.steps(plan, stream),
                passes.address(plan, stream),
                passes.lookup(plan, stream),
                *several,
                passes.read(plan, stream),
                passes.clamp(plan, stream),
            ],
        )
        self.freeze()

    def points(self) -> Float[Tensor, "points tokens dim"]:
        """The centres of all boxes; the last axis of the last token varies fastest."""
        centres = self.centres()
        axes = [centres] * (self.plan.tokens * self.plan.dim)
        grid = torch.cartesian_prod(*axes).reshape(-1, self.plan.tokens, self.plan.dim)
        return grid

    def centres(self) -> Float[Tensor, " cells"]:
        """The centre of each cell of one axis, in float64."""
        return (torch.arange(self.plan.cells, dtype=torch.float64) + 0.5) / self.plan.cells

    def rows(self, values: Float[Tensor, "points tokens dim"]) -> Float[Tensor, "prompt hidden"]:
        """Slot n: n, n^2, and the values of the token at its position and cell in every context."""
        tokens, dim, own = self.plan.tokens, self.plan.dim, self.plan.cells**self.plan.dim
        table = values.reshape(*[own] * tokens, tokens, dim)
        prompt = torch.zeros(self.plan.slots, self.stream.size, dtype=self.plan.torch_dtype)
        numbers = passes.slot_numbers(self.plan)
        prompt[:, self.stream.blocks["slot"]] = numbers[:, None]
        prompt[:, self.stream.blocks["slot_square"]] = numbers[:, None] ** 2
        for token in range(tokens):
            entries = table[..., token, :].movedim(token, 0).reshape(own, -1)
            prompt[token * own : (token + 1) * own, self.stream.blocks["row"]] = entries.to(prompt.dtype)
        return prompt

    def refutations(
        self,
        target: TargetFunction,
        points: Float[Tensor, "points tokens dim"],
        values: Float[Tensor, "points tokens dim"],
    ) -> list[Fault]:
        """The steepest pair of neighbouring centres, where it is too steep."""
        return grid_refutations(target, points, values, self.plan.cells)

    def edges(self) -> Float[Tensor, " edges"]:
        """Both ends of every ramp, and 0 and 1."""
        return ramp_edges(self.starts, self.plan.ramp)

    def ledger(self, lipschitz: float) -> Ledger:
        """The items of the certificate, from the thresholds and keys that stand in the weights."""
        head = next(item for item in self.order if isinstance(item, Attention))
        plan = self.plan
        return table_ledger(
            size=plan.tokens * plan.dim,
            cells=plan.cells,
            radius=cell_radius(self.starts, plan.ramp, self.centres(), rounding.EXACT_UNIT[plan.dtype]),
            lipschitz=lipschitz,
            ramp=plan.ramp,
            sharpness=int(head.key[2, -1]),
            slots=plan.slots,
            content=plan.tokens,
            dtype=plan.dtype,
        )

    def prompt_faults(self, embeddings: Float[Tensor, "prompt hidden"]) -> list[Fault]:
        """What keeps the rows from being numbered slots with entries in [0, 1]."""
        frame = self.rows(torch.zeros(self.plan.evaluations, self.plan.tokens, self.plan.dim, dtype=torch.float64))
        return frozen.frame_faults(embeddings, frame, self.stream.blocks["row"])

    def _certificate(
        self, embeddings: Float[Tensor, "prompt hidden"], lipschitz: float, everywhere: bool
    ) -> Certificate:
        part = "sup" if everywhere else "mean"
        ledger, shape = self.ledger(lipschitz), f"[0,1]^({self.plan.tokens} x {self.plan.dim})"
        sampled = sample_clause(self.plan.tokens * self.plan.dim * len(self.starts) * self.plan.ramp * 5 / 4)
        what = {
            "mean": "the root of the mean of |backbone(X) - f(X)|^2 over X uniform in the cube is at most value. "
            + sampled.removesuffix("."),
            "sup": "|backbone(X) - f(X)| is at most value at every X with no coordinate inside a ramp",
        }[part]
        return Certificate(
            claim=(
                f"For every f from {shape} into itself with |f(X) - f(X')| <= {lipschitz:g} |X - X'| whose values at "
                f"the centres of the cells round to the table in the prompt's rows, {what}. 2-norms over all entries; "
                f"X is rounded to {self.plan.dtype} first; arithmetic is IEEE {self.plan.dtype} with an exponential "
                f"right to {EXP_UNITS} units in the last place."
            ),
            value=ledger.sup if everywhere else ledger.mean,
            side=Side.UPPER,
            evidence=Evidence.PROVED,
            assumptions=(
                Assumption("slots are numbered and hold entries in [0, 1]", True, "looked at each row"),
                Assumption("the passes are those of the construction", True, "weights compared; recheck runs each"),
            ),
            theorem="programmable-table",
            witness={
                "part": part,
                "lipschitz": lipschitz,
                "dim": self.plan.dim,
                "tokens": self.plan.tokens,
                "cells": self.plan.cells,
                "dtype": self.plan.dtype,
                "weights": {name: tensor.detach() for name, tensor in self.state_dict().items()},
                "prompt": embeddings,
            },
            checker="compiler.programmable.programmable_recheck:recheck_programmable",
        )
