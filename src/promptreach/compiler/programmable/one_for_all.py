"""One backbone for every tolerance: the prompt brings resolution, sharpness and its distance from the content.

The papers fix the tolerance first and then the weights. Here the weights follow from the size of an input alone, and no
tolerance, Lipschitz constant or function enters them: they are those of `kernel` with all sizes moved into the prompt.
Slot n holds beta c_n in place of its centre c_n, the value f(c_n), and the height -beta |c_n|^2 + b:

    smooth    the score of slot n at input X is 2 X.(beta c_n) - beta |c_n|^2 + b = beta |X|^2 - beta |X - c_n|^2 + b

A content token has score 0. The nearest slot has at least b - s D / 4, so that b = s D / 4 + (a number of nats) keeps
the content out, as low keys do in `kernel`; the weights among slots are the same, and so is the certificate, with b
among the terms of a score that round. Before that every token collects the others by softmax over positions, with a
gap of `APART` nats: what of the prompt leaks in shrinks by that factor, whatever the prompt. It is the one constant;
it covers every prompt that float64 can hold, in number and sharpness, and each certificate counts its leak.

So one frozen transformer approximates every Lipschitz function to every tolerance, up to the arithmetic's, by prompts
alone; their length grows as (C (D)^(1/2) / tol)^D, as it must in the exponent.

Reference: theorem key ``one-for-all``; compare Wang et al. 2023 (paper A), Theorem 1.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from promptreach.certificate import Certificate, Independence, Statement, rechecks
from promptreach.compiler.backbone import CompiledBackbone, rebuilt
from promptreach.compiler.papers.kernel import (
    KernelSizes,
    bound,
    gather,
    integrated,
    integrated_size,
    planned,
    sizes_for,
    statement,
    stream_for,
)
from promptreach.compiler.parts import fingerprint
from promptreach.compiler.parts.blocks import Attention, FeedForward, Projection, Stream, own_entries
from promptreach.compiler.parts.grid import cell_centres, grid_points
from promptreach.compiler.plan import Plan, Question
from promptreach.compiler.target import Points
from promptreach.errors import Fault

APART = 700
"""Nats between the right position and every other row where tokens are collected: exp(-700) is 1e-304."""


def plan(dim: int, tokens: int, lipschitz: float, tol: float, dtype: str) -> Plan:
    """The fewest slots that reach `tol`, and for these the widest kernel; `bound` stays above `tol` if none does."""
    return planned(Question("one_for_all", dim, tokens, lipschitz, tol, dtype), _sizes, _bound)


def _sizes(dim: int, tokens: int, cells: int, sharpness: float, tol: float) -> KernelSizes:
    return dataclasses.replace(sizes_for(dim, tokens, cells, sharpness, tol), apart=APART)


def _bound(sizes: KernelSizes, lipschitz: float, dtype: str, everywhere: bool = False) -> float:
    return bound(sizes, lipschitz, dtype, everywhere, raised=_raise(sizes))


def _raise(sizes: KernelSizes) -> float:
    """The b of a slot's height, in nats."""
    return float(sizes.below + math.ceil(sizes.sharpness * sizes.size / 4))


class OneForAll(CompiledBackbone):
    """The backbone whose weights know neither tolerance nor functions. See the module.

    `plan` says what `prompt_for` writes; backbones of all plans for one dim, tokens and dtype have equal weights, and
    each runs the prompts of all.
    """

    def __init__(self, plan: Plan) -> None:
        self.sizes = _sizes(plan.dim, plan.tokens, plan.cells, plan.sharpness, plan.tol)
        stream = stream_for(plan.dim, plan.tokens)
        gathers = [gather(plan, stream, self.sizes, position) for position in range(plan.tokens)]
        passes: list[FeedForward | Attention] = [*(gathers if plan.tokens > 1 else [])]
        passes += [_smooth(plan, stream), own_entries("own", stream, "mixed", "output", 1, plan.torch_dtype)]
        super().__init__(plan, stream, passes)
        self.freeze()

    def points(self) -> Points:
        """The centres; the last axis of the last token varies fastest."""
        return grid_points(cell_centres(self.plan.cells), self.plan.tokens, self.plan.dim)

    def rows(self, values: Points) -> Float[Tensor, "prompt hidden"]:
        """Slot n: beta c, b - beta |c|^2, and the function's value at c."""
        centres, beta = self.points().flatten(1), self.sizes.beta
        prompt = torch.zeros(len(centres), self.stream.size, dtype=torch.float64)
        prompt[:, self.stream.blocks["centre"]] = beta * centres
        heights = _raise(self.sizes) - beta * centres.square().sum(dim=1, keepdim=True)
        prompt[:, self.stream.blocks["height"]] = heights
        prompt[:, self.stream.blocks["value"]] = values.flatten(1)
        return prompt.to(self.plan.torch_dtype)

    def edges(self) -> Float[Tensor, " edges"]:
        """Where the nearest centre changes, and 0 and 1: no ramps, but where errors are largest."""
        return torch.arange(self.plan.cells + 1, dtype=torch.float64) / self.plan.cells

    def good(self, x: Float[Tensor, "batch tokens dim"]) -> Bool[Tensor, " batch"]:
        """True for every input: the sup certificate has no exceptions."""
        return torch.ones(len(x), dtype=torch.bool)

    def prompt_faults(self, embeddings: Tensor) -> list[Fault]:
        """What keeps the rows from being centres with values in [0, 1]."""
        frame = self.rows(torch.zeros(self.plan.slots, self.plan.tokens, self.plan.dim, dtype=torch.float64))
        return fingerprint.frame_faults(embeddings, frame, self.stream.blocks["value"])

    def _certificate(self, embeddings: Tensor, lipschitz: float, everywhere: bool) -> Certificate:
        value = _bound(self.sizes, lipschitz, self.plan.dtype, everywhere)
        return Certificate.stated(
            recheck_one_for_all, value, self.witness(embeddings, lipschitz, everywhere)
        ).confirmed()


def _smooth(plan: Plan, stream: Stream) -> Attention:
    """mixed = sum_n w_n f(c_n), with w_n proportional to exp(2 X.(beta c_n) + height_n); content tokens score 0."""
    size, dtype = plan.question.size, plan.torch_dtype
    query, key = torch.zeros(size + 1, size, dtype=dtype), torch.zeros(size + 1, size + 1, dtype=dtype)
    query[:size], key[:size, :size] = torch.eye(size, dtype=dtype), 2 * torch.eye(size, dtype=dtype)
    query_bias = torch.zeros(size + 1, dtype=dtype)
    query_bias[size] = key[size, size] = 1
    ones = torch.ones(size, dtype=dtype)
    return Attention(
        "smooth",
        stream,
        query=Projection(["gathered" if plan.tokens > 1 else "input"], query, query_bias),
        key=Projection(["centre", "height"], key),
        value=Projection(["value"], ones),
        output=Projection(["mixed"], ones),
    )


def _states(witness: Mapping[str, Any]) -> Statement:
    return statement(witness, "one-for-all")


@rechecks(Independence.SHARED, states=_states, size=integrated_size, quick=2**26, most=2**36)
def recheck_one_for_all(certificate: Certificate) -> bool:
    """Second path: that of the kernel, an integral on a fine grid, on the backbone as it is built again.

    A quarter of an hour at most.
    """
    backbone = rebuilt(OneForAll, plan, certificate)
    return backbone is not None and integrated(backbone.sizes, certificate)
