"""The plan of `programmable`: cells, ramps and sharpness from the error wanted, by arithmetic alone."""

import math
from collections.abc import Iterable
from fractions import Fraction
from typing import TypeVar

import torch

from promptreach import rounding
from promptreach.compiler.backbone import CHUNK_BYTES
from promptreach.compiler.parts.error_budget import Ledger, table_ledger
from promptreach.compiler.parts.relu import narrowest_ramp
from promptreach.compiler.plan import FLOPS, ITEM_BYTES, Comparison, Plan, paper_length_log10
from promptreach.compiler.programmable.multilinear_budget import InterpolationLedger

SHARE = Fraction(1, 1000)
"""The part of tol that the softmax leak may take."""


def plan(dim: int, tokens: int, lipschitz: float, tol: float, dtype: str) -> Plan:
    """The sizes that make the certificate at most `tol`; `bound` stays above it where `dtype` allows none."""
    coarsest = max(1, math.ceil(lipschitz * math.sqrt(dim * tokens / 12) / tol))
    # Sampling, ramps and rounding need a little room beside the cells, more of it in float32.
    tried = (coarsest + extra + coarsest * extra // 50 for extra in range(20))
    ledgers = ((cells, _planned_ledger(dim, tokens, lipschitz, tol, dtype, cells)) for cells in tried)
    cells, ledger = first_within(ledgers, tol)
    return _sized(dim, tokens, lipschitz, tol, dtype, cells, ledger)


Bounded = TypeVar("Bounded", Ledger, InterpolationLedger)


def first_within(ledgers: Iterable[tuple[int, Bounded]], tol: float) -> tuple[int, Bounded]:
    """The first whose d_2 bound is at most `tol`; the one with the least bound where there is none."""
    best = None
    for cells, ledger in ledgers:
        if best is None or ledger.mean < best[1].mean:
            best = (cells, ledger)
        if ledger.mean <= tol:
            break
    assert best is not None
    return best


def _planned_ledger(dim: int, tokens: int, lipschitz: float, tol: float, dtype: str, cells: int) -> Ledger:
    """What the certificate will say, at the lowest sharpness whose leak keeps its share."""
    size = dim * tokens
    leak_share = float(SHARE) * tol / math.sqrt(size)
    sharpness = max(math.ceil(-math.log(min(leak_share, 1 / (32 * cells)) / 2.5)), 2)
    return table_ledger(
        size=size,
        cells=cells,
        # Cells at the two ends lose half a ramp less; half a cell and the rounding of centre and edge cover all.
        radius=Fraction(1, 2 * cells) + 2 * rounding.EXACT_UNIT[dtype],
        lipschitz=lipschitz,
        ramp=narrowest_ramp(getattr(torch, dtype)),
        sharpness=sharpness,
        slots=tokens * cells**dim,
        content=tokens,
        dtype=dtype,
    )


def prompt_comparison(dim: int, tokens: int, lipschitz: float, tol: float, table: int) -> Comparison:
    """The numbers of a prompt beside the papers' table of (2 C (dL)^(1/2) / tol)^(dL) vectors for each token."""
    return Comparison(
        "numbers in the prompt",
        "Hu et al. 2025, Theorem 2.5, and the count behind Wang et al. 2023, Theorem 1",
        paper_length_log10(dim, tokens, lipschitz, tol) + math.log10(dim),
        math.log10(table),
    )


def _sized(dim: int, tokens: int, lipschitz: float, tol: float, dtype: str, cells: int, ledger: Ledger) -> Plan:
    own, contexts, others = cells**dim, cells ** (dim * (tokens - 1)), (tokens - 1) * dim
    slots, size, units = tokens * own, tokens * dim, dim * (cells - 1)
    hidden = 4 * dim + 2 * size + tokens + units + 3 + others + contexts * dim
    several = tokens > 1
    shapes = {
        "ramps": units * (dim + 2),
        "steps": units * (2 + dim) + dim,
        "address": (slots - 1 + size) * (dim + tokens + 2 + size) + 1 + size,
        "lookup": 3 * (dim + tokens + 1) + 3 + 3 * (2 + tokens) + 2 * (size + contexts * dim),
        "context": several * tokens * others * (size + tokens + 1 + others),
        "select": several * 2 * cells * others * (others + 1 + contexts * dim),
        "read": contexts * dim * (1 + dim),
        "clamp": 4 * dim,
    }
    if not several:
        del shapes["context"], shapes["select"]
    parameters = sum(shapes.values()) + (2 * dim + tokens) * hidden
    evaluations = cells**size
    item = ITEM_BYTES[dtype]
    flops = 2000 * tokens * (sum(shapes.values()) + (slots + tokens) * (size + contexts * dim + 20))
    table = tokens * dim * evaluations
    length = paper_length_log10(dim, tokens, lipschitz, tol)
    paper_layers = dim * (10 ** min(length, 300) + tokens) * max(-math.log10(tol), 0)
    widths = [units, units, slots - 1 + size, tokens * others, 2 * cells * others, contexts * dim]
    return Plan(
        construction="programmable",
        dim=dim,
        tokens=tokens,
        lipschitz=lipschitz,
        tol=tol,
        dtype=dtype,
        cells=cells,
        slots=slots,
        hidden_size=hidden,
        width=max(widths),
        passes=tuple(shapes),
        sharpness=float(ledger.sharpness),
        ramp=ledger.ramp,
        table_entries=table,
        evaluations=evaluations,
        parameters=parameters,
        bytes=item * (parameters + 3 * slots * hidden) + 3 * 8 * evaluations * size + 2 * CHUNK_BYTES,
        seconds=as_float(flops) / FLOPS,
        bound=ledger.mean,
        compared=(
            prompt_comparison(dim, tokens, lipschitz, tol, table),
            Comparison(
                "relu units",
                "Hu et al. 2025, Theorem 2.3, without its constant",
                paper_layers,
                math.log10(max(sum(widths), 1)),
            ),
        ),
    )


def as_float(number: int) -> float:
    """The number, or infinity where a float ends."""
    return float(number) if number < 10**300 else math.inf
