"""Findings about a compiled function, for a page: its size, its error, and target against output."""

import math
import time
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from promptreach.certificate import Certificate, Evidence
from promptreach.compiler import CompiledBackbone, Plan, TargetFunction
from promptreach.compiler.verify import Measurement
from promptreach.evidence import Side
from promptreach.prompt import SoftPrompt
from promptreach.report.certificates import finished, settled
from promptreach.report.findings import Block, Cell, Curve, Finding, Heatmap, Series, Table, Text
from promptreach.rounding import shown_bound

CHANCE = 5.0
"""Standard errors by which fresh points must exceed a certificate to refute it."""

_NOTICED = 0.01  # of tol: a difference of outputs that is worth a sentence
_LINE_POINTS = 240
_RASTER = 24
_GOLDEN = (math.sqrt(5) - 1) / 2  # its multiples meet no edge of a grid, where the narrow ramps are


@dataclass(frozen=True, eq=False)
class CompiledFunction:
    """A function, the backbone that plays it, and what was seen when it was tried.

    Attributes:
        certificate: the prompt's, after its second code path was run.
        points, seconds: how many fresh points there were, and how long they took.
        reloaded: the largest difference between outputs in memory and from the saved folders: with the prompt in the
            backbone's dtype, and in PEFT's float32.
    """

    target: TargetFunction
    backbone: CompiledBackbone
    prompt: SoftPrompt
    certificate: Certificate
    measured: Measurement
    points: int
    seconds: float
    reloaded: tuple[float, float]

    @property
    def rechecked(self) -> bool:
        """Whether the certificate's second code path confirmed it."""
        return self.certificate.rechecked is True

    @property
    def refuted(self) -> bool:
        """Whether the error on fresh points is above the certificate by more than chance explains.

        With y the squared errors, the sample variance is at most the mean of y^2, which is at most max(y) mean(y). So
        the standard error of mean(y) is at most sqrt(max(y) mean(y) / points).
        """
        mean = self.measured.error.value**2
        size = self.target.dim * self.target.tokens
        largest = self.measured.largest**2 if self.measured.in_ramps == 0 else float(size)
        return mean - CHANCE * math.sqrt(largest * mean / self.points) > self.certificate.value**2

    @property
    def holds(self) -> bool:
        """Whether the certificate is within tol, confirmed by its second path, and not refuted by the fresh points."""
        return self.certificate.value <= self.backbone.plan.tol and self.rechecked and not self.refuted


def compiled_findings(compiled: CompiledFunction) -> list[Finding]:
    """The pictures, the error and the size: everything that a page about one compiled function shows."""
    return [picture_finding(compiled), error_finding(compiled), size_finding(compiled.backbone.plan)]


def error_finding(compiled: CompiledFunction) -> Finding:
    """Measured error against certificate against tol."""
    measured, certificate, tol = compiled.measured.error.value, compiled.certificate, compiled.backbone.plan.tol
    name = compiled.target.name
    summary = (
        f"The error on fresh points is {measured:.3g}, the certificate allows "
        f"{shown_bound(certificate.value, Side.UPPER)}, and {tol:g} was asked for."
    )
    if compiled.refuted:
        summary += f" {name} is steeper than its declared Lipschitz constant {compiled.target.lipschitz:g}."
    elif not compiled.measured.holds:
        summary += " Chance explains the excess: it is below five standard errors."
    if compiled.reloaded[1] > _NOTICED * tol:
        summary += (
            f" Loaded by PEFT in float32 the outputs change by up to {compiled.reloaded[1]:.2g}: load the prompt with "
            "promptreach.hf.load_compiled_prompt."
        )
    rows: list[list[Cell]] = [
        ["tol, the error asked for", tol, ""],
        ["certificate, at most", shown_bound(certificate.value, Side.UPPER), certificate.evidence.value],
        ["certificate confirmed by a second code path", compiled.rechecked, ""],
        ["error on fresh points", measured, compiled.measured.error.evidence.value],
        ["largest error at one of them, outside the ramps", compiled.measured.largest, "MEASURED"],
        ["fresh points inside a ramp", compiled.measured.in_ramps, "MEASURED"],
        ["saved and loaded again: outputs differ by at most", compiled.reloaded[0], "MEASURED"],
        ["the same with PEFT's default, a float32 prompt", compiled.reloaded[1], "MEASURED"],
    ]
    finding = Finding(
        check="compiled_error",
        title="The error",
        evidence=Evidence.MEASURED,
        sample=compiled.measured.error.sample,
        seconds=compiled.seconds,
        summary=summary,
        values={"tol": tol, "certificate": certificate.value, "measured": measured, "holds": compiled.holds},
        blocks=[
            Table(
                title="Asked for, proved, measured",
                columns=["what", "value", "evidence"],
                rows=rows,
                note="Errors are in the papers' d_2: the root of the mean over inputs of the squared error, summed "
                "over all entries of the output.",
            ),
            Text(
                text="The certificate holds for every function with the declared Lipschitz constant and the values "
                "that were looked up. That constant is the caller's word: trying the function can refute it and "
                "never prove it. A bound on the mean says nothing of a single input: inside the quantiser's ramps an "
                "output can be anything in the cube."
            ),
        ],
        certificates=[
            settled(certificate, "it holds every weight, and stands in certificate.json"),
            compiled.measured.error,
        ],
    )
    return finished(finding)


def size_finding(plan: Plan) -> Finding:
    """The plan as a table, and its sizes beside the papers'."""
    sizes: list[list[Cell]] = [
        ["construction", plan.construction],
        ["passes", ", ".join(plan.passes)],
        ["grid cells along each axis", f"{plan.cells:,}"],
        ["virtual tokens", f"{plan.slots:,}"],
        ["hidden size", f"{plan.hidden_size:,}"],
        ["numbers of the prompt that depend on the function", f"{plan.table_entries:,}"],
        ["frozen weights", f"{plan.parameters:,}"],
        ["bytes, at most", f"{plan.bytes:,}"],
        ["sharpness of the lookup, nats", f"{plan.sharpness:.3g}"],
        ["width of the quantiser's ramps", f"{plan.ramp:.3g}"],
    ]
    compared: list[list[Cell]] = [[row.what, row.achieved_log10, row.paper_log10, row.paper] for row in plan.compared]
    return Finding(
        check="compiled_size",
        title="The size",
        evidence=Evidence.PROVED,
        sample="counted from the plan, before anything was built",
        summary=f"The prompt is {plan.slots:,} virtual tokens of {plan.hidden_size:,} numbers each. The "
        f"{plan.parameters:,} weights behind it were fixed before the function was seen.",
        blocks=[
            Table(title="The plan", columns=["what", "value"], rows=sizes),
            Table(
                title="Beside the papers, in powers of ten",
                columns=["what", "here", "by the formula", "formula"],
                rows=compared,
                note="The papers' formulas are sufficient sizes of one construction, without their constants where "
                "none is given.",
            ),
        ],
    )


def picture_finding(compiled: CompiledFunction) -> Finding:
    """Target and output along a line through the cube, and over the whole square where an input has two entries."""
    began = time.perf_counter()
    blocks: list[Block] = [*_curves(compiled)]
    if compiled.target.dim * compiled.target.tokens == 2:
        blocks += _maps(compiled)
    return Finding(
        check="compiled_pictures",
        title="Target against output",
        evidence=Evidence.MEASURED,
        sample="evaluated at every point that is drawn",
        summary="What was asked for, and what the frozen transformer answers with this prompt in front.",
        blocks=blocks,
        seconds=time.perf_counter() - began,
    )


def _curves(compiled: CompiledFunction) -> list[Curve]:
    """One figure for each entry of the output, along one straight line from side to side of the cube."""
    tokens, dim = compiled.target.tokens, compiled.target.dim
    # From corner to corner all entries would be equal, which symmetric functions cannot tell apart.
    start = torch.tensor([(entry * _GOLDEN) % 1 for entry in range(tokens * dim)], dtype=torch.float64)
    way = (torch.arange(_LINE_POINTS, dtype=torch.float64) + _GOLDEN) / _LINE_POINTS
    points = (start + way[:, None] * (1 - 2 * start)).reshape(-1, tokens, dim)
    wanted, given = _values(compiled, points)
    label = "x" if tokens * dim == 1 else "share of the way through the cube"
    return [
        Curve(
            title=f"{compiled.target.name}{_entry(compiled, entry)}",
            x_label=label,
            y_label="value",
            series=[
                Series(name="target", x=way.tolist(), y=wanted[:, entry].tolist()),
                Series(name="output", x=way.tolist(), y=given[:, entry].tolist()),
            ],
            note=""
            if tokens * dim == 1
            else f"On the line from {_point(start)} to {_point(1 - start)}, entries in order.",
        )
        for entry in range(tokens * dim)
    ]


def _maps(compiled: CompiledFunction) -> list[Heatmap]:
    """Target and output over the unit square, for both entries of the output, on one scale."""
    axis = (torch.arange(_RASTER, dtype=torch.float64) + _GOLDEN) / _RASTER
    points = torch.cartesian_prod(axis, axis).reshape(-1, compiled.target.tokens, compiled.target.dim)
    wanted, given = _values(compiled, points)
    low, high = float(torch.minimum(wanted, given).min()), float(torch.maximum(wanted, given).max())
    return [
        Heatmap(
            title=f"{name}{_entry(compiled, entry)}",
            values=values[:, entry].reshape(_RASTER, _RASTER).tolist(),
            unit="",
            row_name=f"first entry, in {_RASTER}ths",
            column_name=f"second entry, in {_RASTER}ths",
            low=low,
            high=high,
        )
        for entry in range(2)
        for name, values in (("target", wanted), ("output", given))
    ]


def _values(
    compiled: CompiledFunction, points: Float[Tensor, "points tokens dim"]
) -> tuple[Float[Tensor, "points entries"], Float[Tensor, "points entries"]]:
    with torch.no_grad():
        given = compiled.backbone(points, compiled.prompt).to("cpu", torch.float64)
    return compiled.target.at(points).flatten(1), given.flatten(1)


def _entry(compiled: CompiledFunction, entry: int) -> str:
    """Which entry of the output, where there are several."""
    token, coordinate = divmod(entry, compiled.target.dim)
    parts = [f"token {token + 1}"] * (compiled.target.tokens > 1)
    parts += [f"coordinate {coordinate + 1}"] * (compiled.target.dim > 1)
    return ", ".join(["", *parts])


def _point(entries: Float[Tensor, " entries"]) -> str:
    return f"({', '.join(f'{value:.2g}' for value in entries.tolist())})"
