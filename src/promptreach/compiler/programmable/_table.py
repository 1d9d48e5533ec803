"""The base of the two table transformers: a quantiser in front, a clamp behind, a prompt that holds a table.

ramps     relu ramps at the inner edges of the cells of each axis
steps     the number of edges passed: the digit of each axis, a whole number outside the ramps
...       the construction's own layers
clamp     into [0, 1]
"""

import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from promptreach.certificate import Certificate
from promptreach.checkers import find
from promptreach.compiler.backbone import CHUNK_BYTES, CompiledBackbone
from promptreach.compiler.parts import relu
from promptreach.compiler.parts.blocks import Attention, FeedForward, Stream
from promptreach.compiler.parts.fingerprint import frame_faults
from promptreach.compiler.parts.grid import grid_points, grid_refutations, ramp_edges
from promptreach.compiler.plan import FLOPS, ITEM_BYTES, Plan, Question, SizeComparison
from promptreach.compiler.programmable.error_budget import ErrorBudget
from promptreach.compiler.target import Points, TargetFunction
from promptreach.covering import covering_length_log10
from promptreach.errors import Fault


class PromptTable(CompiledBackbone):
    """A backbone whose prompt rows hold a table of the function over a grid of points.

    Args:
        plan: the sizes.
        stream: with the blocks "input", "ramps", "digit", "raw" and "output" among others.
        between: the layers between quantiser and clamp.
    """

    table: ClassVar[str]
    """The block of the prompt rows that holds the table's entries."""

    checker: ClassVar[str]
    """The name of the second path of its certificates."""

    def __init__(self, plan: Plan, stream: Stream, between: Sequence[FeedForward | Attention]) -> None:
        self.starts = relu.thresholds(plan.cells, plan.ramp, plan.torch_dtype)
        quantiser = [ramps(plan, stream, self.starts), steps(plan, stream)]
        super().__init__(plan, stream, [*quantiser, *between, clamp(plan, stream)])
        self.freeze()

    @abstractmethod
    def axis(self) -> Float[Tensor, " points"]:
        """The points of the grid on one axis, in float64."""

    @abstractmethod
    def budget(self, lipschitz: float) -> ErrorBudget:
        """The items of the certificate."""

    def points(self) -> Points:
        """All points of the grid; the last axis of the last token varies fastest."""
        return grid_points(self.axis(), self.plan.tokens, self.plan.dim)

    def refutations(self, target: TargetFunction, points: Points, values: Points) -> list[Fault]:
        """The steepest pair of neighbours on the grid, where it is too steep."""
        return grid_refutations(target, points, values, len(self.axis()))

    def edges(self) -> Float[Tensor, " edges"]:
        """Both ends of every ramp, and 0 and 1."""
        return ramp_edges(self.starts, self.plan.ramp)

    def prompt_faults(self, embeddings: Float[Tensor, "prompt hidden"]) -> list[Fault]:
        """What keeps the rows from being numbered slots with entries in [0, 1]."""
        empty = torch.zeros(self.plan.evaluations, self.plan.tokens, self.plan.dim, dtype=torch.float64)
        return frame_faults(embeddings, self.rows(empty), self.stream.blocks[self.table])

    def _certificate(
        self, embeddings: Float[Tensor, "prompt hidden"], lipschitz: float, everywhere: bool
    ) -> Certificate:
        plan, budget = self.plan, self.budget(lipschitz)
        witness = {
            "part": "sup" if everywhere else "mean",
            "lipschitz": lipschitz,
            **plan.options,
            "dim": plan.dim,
            "tokens": plan.tokens,
            "cells": plan.cells,
            "dtype": plan.dtype,
            "weights": {name: tensor.detach() for name, tensor in self.state_dict().items()},
            "prompt": embeddings.detach(),
        }
        return Certificate.stated(find(self.checker), budget.sup if everywhere else budget.mean, witness).confirmed()


def ramps(plan: Plan, stream: Stream, starts: Float[Tensor, " inner"]) -> FeedForward:
    """h_ak = relu((x_a - t_k) / eta), for every axis a and inner edge k."""
    up, bias = relu.ramp_units(starts, plan.ramp, plan.dim)
    return FeedForward("ramps", stream, ["input"], ["ramps"], up, bias, torch.ones(len(up), dtype=up.dtype))


def steps(plan: Plan, stream: Stream) -> FeedForward:
    """digit_a = number of edges passed on axis a; 0 in prompt rows, whose input is 0."""
    up, bias, down, down_bias = relu.step_units(plan.cells - 1, plan.dim, plan.torch_dtype)
    return FeedForward("steps", stream, ["ramps"], ["digit"], up, bias, down, down_bias)


def clamp(plan: Plan, stream: Stream) -> FeedForward:
    """output = 1 - relu(1 - raw) = min(raw, 1), and raw >= 0: also inside the ramps the output is in the cube."""
    ones = torch.ones(plan.dim, dtype=plan.torch_dtype)
    return FeedForward("clamp", stream, ["raw"], ["output"], -ones, ones, -ones, ones)


def fewest_cells(cells: Iterable[int], sized: Callable[[int], Plan], bound: Callable[[Plan], float]) -> Plan:
    """The first plan whose d_2 bound is at most tol; the one with the least bound where there is none."""
    best = None
    for count in cells:
        draft = sized(count)
        plan = replace(draft, bound=bound(draft))
        if best is None or plan.bound < best.bound:
            best = plan
        if plan.bound <= plan.tol:
            break
    assert best is not None
    return best


def table_plan(
    question: Question,
    stream: Stream,
    own: Mapping[str, int],
    *,
    cells: int,
    slots: int,
    width: int,
    moved: int,
    evaluations: int,
    sharpness: float,
    compared: tuple[SizeComparison, ...] = (),
    options: Mapping[str, float | int | str] | None = None,
    derived: Mapping[str, int] | None = None,
) -> Plan:
    """The plan of a table transformer, its bound left open.

    Args:
        question: what was asked for.
        stream: the layout of the hidden state.
        own: numbers in the weights of the layers between quantiser and clamp, in order.
        moved: numbers that attention reads and writes for each pair of rows.
        cells, slots, width, evaluations, sharpness, compared, options, derived: as in `Plan`.
    """
    dim, tokens, size, units = question.dim, question.tokens, question.size, question.dim * (cells - 1)
    weights = {"ramps": units * (dim + 2), "steps": units * (2 + dim) + dim, **own, "clamp": 4 * dim}
    parameters = sum(weights.values()) + (2 * dim + tokens) * stream.size
    flops = 2000 * tokens * (sum(weights.values()) + (slots + tokens) * moved)
    item, table = ITEM_BYTES[question.dtype], size * evaluations
    length = covering_length_log10(dim, tokens, question.lipschitz, question.tol)
    source = "Hu et al. 2025, Theorem 2.5, and the count behind Wang et al. 2023, Theorem 1"
    numbers = SizeComparison("numbers in the prompt", source, length + math.log10(dim), math.log10(table))
    return Plan(
        *question,
        cells=cells,
        slots=slots,
        hidden_size=stream.size,
        width=max(units, width),
        passes=tuple(weights),
        sharpness=sharpness,
        ramp=relu.narrowest_ramp(getattr(torch, question.dtype)),
        table_entries=table,
        evaluations=evaluations,
        parameters=parameters,
        bytes=item * (parameters + 3 * slots * stream.size) + 3 * 8 * evaluations * size + 2 * CHUNK_BYTES,
        seconds=(float(flops) if flops < 10**300 else math.inf) / FLOPS,
        bound=math.inf,
        compared=(numbers, *compared),
        options=options or {},
        derived=derived or {},
    )
