"""The plan of `multilinear`: cells, knots and sharpness from the error wanted, by arithmetic alone."""

import dataclasses
import math
from fractions import Fraction
from numbers import Real

import torch

from promptreach.compiler.backbone import CHUNK_BYTES
from promptreach.compiler.parts import relu
from promptreach.compiler.plan import EXTREME, FLOPS, ITEM_BYTES, Plan
from promptreach.compiler.programmable import programmable_plan
from promptreach.compiler.programmable.multilinear_budget import InterpolationLedger, interpolation_ledger, logit_error
from promptreach.compiler.programmable.multilinear_layers import tilt_table
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
    size = dim * tokens
    coarsest = max(1, math.ceil(math.sqrt(curvature / 2 * math.sqrt(size / 30 + size * (size - 1) / 36) / tol)))
    sizes: dict[int, Plan] = {}

    def bounds(cells: int) -> InterpolationLedger:
        draft = _sized(dim, tokens, lipschitz, tol, dtype, float(curvature), cells)
        ledger = ledger_of(draft, lipschitz, float(curvature))
        sizes[cells] = dataclasses.replace(draft, bound=ledger.mean)
        return ledger

    tried = (coarsest + extra + coarsest * extra // 50 for extra in range(10))
    cells, _ = programmable_plan.first_within(((cells, bounds(cells)) for cells in tried), tol)
    return sizes[cells]


def _sized(dim: int, tokens: int, lipschitz: float, tol: float, dtype: str, curvature: float, cells: int) -> Plan:
    """The plan with so many cells, its bound left open."""
    size, units, slots = dim * tokens, dim * (cells - 1), (cells + 1) ** (dim * tokens)
    # sigma of a chord errs by at most (step^2 / 8) / (6 sqrt 3), and beyond the ends by sigma(-Lambda).
    weight_error = min(max(_WEIGHT_SHARE * tol * cells / (size * lipschitz), 1e-9), 0.05) if lipschitz else 0.05
    reach = math.ceil(-math.log(weight_error))
    knots = 2 * math.ceil(reach / math.sqrt(weight_error * 48 * math.sqrt(3))) + 1
    leaks = 9 + 1.5 * math.log(size) - math.log(min(tol, 1.0))
    beta = max(math.ceil((reach + leaks) / 2), reach)
    # Rows that must not be seen multiply numbers up to 2 beta m on their way into scores of up to m of them.
    apart = math.ceil(leaks + size * math.log(cells + 1) + 2 * math.log(4 * beta * cells * size) + math.log(cells))
    hidden = 5 * dim + tokens + units + 4 * size + 1
    shapes = {
        "ramps": units * (dim + 2),
        "steps": units * (2 + dim) + dim,
        "tilt": dim * knots * (3 * dim + 1),
        "file": size * (2 * dim + tokens + 2),
        "gather": 2 * tokens + 2 * size,
        "interpolate": (size + 1) * (2 * size + tokens + 2) + 2 * size,
        "pick": size * (size + tokens + 1 + dim),
        "clamp": 4 * dim,
    }
    parameters = sum(shapes.values()) + (2 * dim + tokens) * hidden
    table = size * slots
    flops = 2000 * tokens * (sum(shapes.values()) + (slots + tokens) * (2 * size + 20))
    return Plan(
        construction="multilinear",
        dim=dim,
        tokens=tokens,
        lipschitz=lipschitz,
        tol=tol,
        dtype=dtype,
        cells=cells,
        slots=slots,
        hidden_size=hidden,
        width=max(units, dim * knots, size),
        passes=tuple(shapes),
        sharpness=float(2 * beta - reach),
        ramp=relu.narrowest_ramp(getattr(torch, dtype)),
        table_entries=table,
        evaluations=slots,
        parameters=parameters,
        bytes=ITEM_BYTES[dtype] * (parameters + 3 * slots * hidden) + 3 * 8 * slots * size + 2 * CHUNK_BYTES,
        seconds=programmable_plan.as_float(flops) / FLOPS,
        bound=math.inf,
        compared=(programmable_plan.prompt_comparison(dim, tokens, lipschitz, tol, table),),
        options={"curvature": curvature},
        derived={"beta": beta, "reach": reach, "apart": apart, "knots": knots},
    )


def ledger_of(plan: Plan, lipschitz: float, curvature: float) -> InterpolationLedger:
    """The items of the certificate for functions with these constants."""
    knots, heights = tilt_table(plan)
    _, changes, _ = relu.piecewise_linear_units(knots, heights)
    reach = plan.derived["reach"]
    return interpolation_ledger(
        size=plan.dim * plan.tokens,
        tokens=plan.tokens,
        cells=plan.cells,
        lipschitz=lipschitz,
        curvature=curvature,
        ramp=plan.ramp,
        weight_error=logit_error(knots.tolist(), heights.tolist(), reach),
        slopes=sum((abs(Fraction(change)) for change in changes.tolist()), start=Fraction(0)),
        knots=len(knots),
        beta=plan.derived["beta"],
        reach=reach,
        apart=plan.derived["apart"],
        dtype=plan.dtype,
    )
