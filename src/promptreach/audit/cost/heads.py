"""Heads and lengths at which almost-linear attention could pay, by paper B's norm criterion and by costs.

Costs at other lengths are PREDICTED from shapes, as if longer text brought queries and keys like those that were seen.
"""

import shlex
import statistics
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from promptreach.audit.context import AuditContext
from promptreach.audit.cost.work import BARE, DeploymentOption, ForwardWork
from promptreach.backbone import Prepended
from promptreach.fast_attention.norm_report import NormReport, norm_report
from promptreach.fast_attention.planner import LEAST_ROWS
from promptreach.fast_attention.sampled.clustered import least_pairs
from promptreach.fast_attention.sampled.landmark import SIZES, SLOT
from promptreach.hf import LayerCapture, OpenModel, attach, capture
from promptreach.hf.running.capture import REBUILT
from promptreach.report.findings import Block, Cell, Code, Curve, Heatmap, Series, Table, Text

TOKENS = 256
"""Held-out tokens on which every head's queries and keys are looked at."""

TOL = 1e-2


@dataclass(frozen=True)
class CostAtLength:
    """PREDICTED costs of one input.

    Attributes:
        tokens: its length.
        attention_share: attention's part of the bare model's work.
        over_bare: each option's work over the bare model's, by name.
        polynomial_heads: heads for which the polynomial method would take less work than exact attention.
        at_best: the whole pass over that with exact attention, were every head as easy as sizes allow.
    """

    tokens: int
    attention_share: float
    over_bare: dict[str, float]
    polynomial_heads: int
    at_best: float


def norm_reports(context: AuditContext) -> list[NormReport]:
    """Every layer's heads on held-out inputs one after another, the best trained prompt or prefix in front.

    None where nobody can look on, or where attention is more than a softmax of scores: the criterion knows no other.
    """
    if not context.model.traits.looked_up:
        return []
    adapter = next(iter(context.best_adapters("prompt", "prefix").values()), None)
    room = context.model.max_positions - (0 if adapter is None else adapter.positions)
    tokens = [token for ids in context.task.encoded["held_out"].sequences for token in ids]
    batch = context.model.batch([tokens[: min(TOKENS, room)]])

    def report(layer: LayerCapture) -> NormReport | None:
        everywhere = torch.ones(layer.query.shape[::2], dtype=torch.bool)
        if layer.beside_scores or (context.model.row is None and layer.rebuilt_error(everywhere) > REBUILT):
            return None
        return norm_report(layer.query, layer.key, layer.prompt_length, scale=layer.scale, tol=TOL)

    with nullcontext(Prepended()) if adapter is None else attach(context.model, adapter) as joined:
        found = capture(context.model, batch, joined, reduce=report)
    reports = [report for report in found if report is not None]
    return reports if len(reports) == len(found) else []


def cost_at_length(
    work: ForwardWork, reports: Sequence[NormReport], options: Sequence[DeploymentOption], length: int
) -> CostAtLength:
    """Costs of one input of `length` tokens."""
    ranks = [rank for report in reports for rank in report.joined.rank]
    polynomial = [1.0 if rank is None else work.polynomial_over_exact(rank, length) for rank in ranks]
    best = [min(cost, 1.0, _sampled_at_least(work, length)) for cost in polynomial] or [1.0]
    share = work.attention_share(length)
    return CostAtLength(
        tokens=length,
        attention_share=share,
        over_bare={
            option.name: work.of_option(option, length) / work.of_option(BARE, length) for option in options[1:]
        },
        polynomial_heads=sum(cost < 1 for cost in polynomial),
        at_best=1 - share + share * statistics.fmean(best),
    )


def _sampled_at_least(work: ForwardWork, length: int) -> float:
    """The least that landmarks or clusters could cost, over exact attention; 1 where they are not tried."""
    if work.causal or length < LEAST_ROWS:
        return 1.0
    return min(least_pairs(length, length) / length**2, SLOT * sum(SIZES[0]) / length)


def norm_values(reports: Sequence[NormReport]) -> dict[str, float | int]:
    """The numbers of the criterion, over all heads."""
    criteria = [report.criterion for report in reports]
    return {
        "norm_length": criteria[0].joined.length,
        "sqrt_log_length": criteria[0].joined.sqrt_log_length,
        "median_ratio": _median([item.joined.ratio for item in criteria]),
        "median_centred_ratio": _median([item.joined.centred_ratio for item in criteria]),
        "median_score": _median([item.joined.score_max for item in criteria]),
        "median_centred_score": _median([item.joined.centred_score_max for item in criteria]),
        "heads": sum(len(item.joined.score_max) for item in criteria),
        "raised_by_prompt": sum(int(item.raised_by_prompt.sum()) for item in criteria),
        "heads_with_a_polynomial": sum(rank is not None for report in reports for rank in report.joined.rank),
    }


def head_blocks(
    model: OpenModel,
    reports: Sequence[NormReport],
    options: Sequence[DeploymentOption],
    at: Mapping[int, CostAtLength],
    longest: int,
) -> list[Block]:
    """The costs at other lengths, how to look closer, the heads, and what they mean.

    Args:
        at: by tokens.
        longest: tokens of the longest input.
    """
    values = norm_values(reports)
    pictures: list[Block] = [
        _added_work(ForwardWork.of(model), options),
        _heatmap(
            "Largest centred entry of a head's queries and keys",
            torch.stack([report.criterion.joined.centred_ratio for report in reports]).tolist(),
            "× sqrt(log n)",
        ),
        _heatmap(
            "Largest score of a head, centred",
            torch.stack([report.criterion.joined.centred_score_max for report in reports]).tolist(),
            "nats",
        ),
    ]
    if values["heads_with_a_polynomial"]:
        degrees = [[None if item is None else float(item) for item in report.joined.degree] for report in reports]
        pictures.append(_heatmap(f"Degree that a range error of {TOL:g} needs", degrees, ""))
    call = ["promptreach", "attend", model.name, "--tokens", str(longest)]
    closer = Code(title="What fast attention could do on every head", language="shell", text=shlex.join(call))
    return [_length_table(list(at.values()), model), closer, *pictures, Text(text=_meaning(reports, values))]


def _added_work(work: ForwardWork, options: Sequence[DeploymentOption]) -> Curve:
    """Work that every option adds to the bare model's, by the length of the input."""
    lengths = [2**power for power in range(3, 17)]
    series = [
        Series(
            name=option.name,
            x=[float(length) for length in lengths],
            y=[work.of_option(option, length) / work.of_option(BARE, length) for length in lengths],
        )
        for option in options
        if option is not BARE
    ]
    return Curve(
        title="Work over the bare model's, by the length of the input",
        x_label="tokens of one input",
        y_label="× the bare model's work",
        series=series,
        note="PREDICTED from shapes.",
        log_x=True,
    )


def _length_table(lengths: Sequence[CostAtLength], model: OpenModel) -> Table:
    rows: list[list[Cell]] = [
        [
            item.tokens,
            "yes" if item.tokens <= model.max_positions else "no",
            item.attention_share,
            item.polynomial_heads,
            item.at_best,
        ]
        for item in lengths
    ]
    return Table(
        title="Would faster attention pay?",
        columns=[
            "tokens of one input",
            "fits the context",
            "attention, share of work",
            "heads where a polynomial takes less",
            "pass with fast attention at best, × exact",
        ],
        rows=rows,
        note="PREDICTED from shapes, for the bare model. At best: every head by the cheapest method that sizes allow"
        + (" (of a causal model only polynomials are counted)" if not model.both_ways else "")
        + "; whether its queries and keys allow it too is another question.",
    )


def _meaning(reports: Sequence[NormReport], values: dict[str, float | int]) -> str:
    found, heads = values["heads_with_a_polynomial"], values["heads"]
    fits = f"In {found} of {heads} heads a polynomial keeps to a range error of {TOL:g}"
    if not found:
        fits = (
            f"In none of the {heads} heads does a polynomial that fits the workspace keep to a range error of {TOL:g}"
        )
    return (
        f"{fits}. Centring, which changes no output, takes the median head's largest score from "
        f"{values['median_score']:.1f} to {values['median_centred_score']:.1f} nats"
        + (
            f"; the adapter raises it in {values['raised_by_prompt']} of them"
            if reports[0].criterion.prompt_length
            else ""
        )
        + f". Paper B's criterion compares entries with sqrt(log n), here {values['sqrt_log_length']:.2f}. "
        + reports[0].meaning[0]
    )


def _heatmap(title: str, values: Sequence[Sequence[float | None]], unit: str) -> Heatmap:
    rounded = [[None if value is None else round(value, 4) for value in row] for row in values]
    return Heatmap(title=title, values=rounded, unit=unit, low=0.0)


def _median(values: Sequence[Tensor]) -> float:
    return float(torch.stack(list(values)).median())
