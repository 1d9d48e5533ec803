"""Paper B's norm criterion as something to read off one's own model: sizes, what they would need, and what it means.

The criterion itself, entries next to sqrt(log n), is `norm_criterion`. Around it stands what an algorithm would
do with these queries and keys: the degree and the number of features that the polynomial method needs for a tolerance,
and the work that would be next to exact attention, with the prompt and without it.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from promptreach.errors import Fault, raise_if_any
from promptreach.fast_attention.norm_criterion import (
    NormCriterion,
    States,
    criterion_faults,
    norm_criterion,
    with_and_without_prompt,
)
from promptreach.fast_attention.polynomial._degrees import needed_degree
from promptreach.fast_attention.polynomial.features import rank
from promptreach.fast_attention.problem import Head, entry_faults
from promptreach.fast_attention.report import ToleranceNotReachedError

EXPONENTIAL = 16
"""Multiplications that one exponential counts for in the predicted work."""

CHEAP = 0.2
"""A predicted share of exact attention's work below which fast attention is worth a try."""


@dataclass(frozen=True, eq=False)
class Sizes:
    """One number a head, the largest over the batch where nothing else is said.

    Attributes:
        query_norm, key_norm: the largest Euclidean norm of a query and of a key, as captured.
        typical_score: the root mean square of all scores, in nats, scale included.
        centred_query_norm, centred_key_norm, centred_typical_score: the same after both means were taken out.
        degree: of the polynomial that the tolerance needs; None where no degree fits the workspace.
        rank: its number of features; None where `degree` is.
        work: PREDICTED multiplications of the polynomial method over those of exact attention; None where `degree` is.
    """

    query_norm: Float[Tensor, " heads"]
    key_norm: Float[Tensor, " heads"]
    typical_score: Float[Tensor, " heads"]
    centred_query_norm: Float[Tensor, " heads"]
    centred_key_norm: Float[Tensor, " heads"]
    centred_typical_score: Float[Tensor, " heads"]
    degree: tuple[int | None, ...]
    rank: tuple[int | None, ...]
    work: tuple[float | None, ...]


@dataclass(frozen=True, eq=False)
class NormReport:
    """Sizes and needs of every head, with the prompt and without it. All MEASURED on the states given; work PREDICTED.

    Attributes:
        criterion: the largest entries and scores next to sqrt(log n), raw and centred, for both.
        joined, content: prompt and content together, and the same states with the prompt's positions left out.
        tol: the range error that degrees and ranks are for.
    """

    criterion: NormCriterion
    joined: Sizes
    content: Sizes
    tol: float

    @property
    def meaning(self) -> tuple[str, ...]:
        """One sentence a head, and before them what no number here can say."""
        general = (
            "Beyond the criterion only worst cases are hard, and only if SETH holds: a head there may still be "
            "approximated well by other means, and at a finite length no threshold exists.",
        )
        return general + tuple(self._meaning(head) for head in range(len(self.joined.degree)))

    def _meaning(self, head: int) -> str:
        raw, small = (
            float(scores[head]) for scores in (self.criterion.joined.score_max, self.criterion.joined.centred_score_max)
        )
        text = f"Head {head}: scores reach {raw:.2g} nats, {small:.2g} after centring, which changes no output; "
        text += self._need(head)
        if self.criterion.prompt_length:
            with_prompt, without = self.joined.rank[head], self.content.rank[head]
            if bool(self.criterion.raised_by_prompt[head]):
                text += "; the prompt raises the largest score"
            if with_prompt != without:
                taken = "more than fits" if without is None else f"{without:,} features"
                text += f"; without the prompt it would take {taken}"
        return text + "."

    def _need(self, head: int) -> str:
        work, degree = self.joined.work[head], self.joined.degree[head]
        if work is None:
            return f"no polynomial that fits the workspace keeps to {self.tol:g}; landmarks may, exact attention does"
        need = f"a range error of {self.tol:g} needs degree {degree} and {self.joined.rank[head]:,} features"
        if work < 1:
            won = "cheap" if work <= CHEAP else "little is won"
            return f"{need}, about {100 * work:.2g} % of the work of exact attention: {won}"
        return f"{need}, {work:.2g} times the work of exact attention at this length"

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, one list entry a head."""

        def sizes(part: Sizes) -> dict[str, Any]:
            return {
                name: [round(item, 6) for item in value.tolist()] if isinstance(value, Tensor) else list(value)
                for name, value in vars(part).items()
            }

        return {
            "tol": self.tol,
            "prompt_length": self.criterion.prompt_length,
            "length": self.criterion.joined.length,
            "sqrt_log_length": self.criterion.joined.sqrt_log_length,
            "largest_entry_over_sqrt_log_length": self.criterion.joined.ratio.tolist(),
            "centred_entry_over_sqrt_log_length": self.criterion.joined.centred_ratio.tolist(),
            "largest_score": self.criterion.joined.score_max.tolist(),
            "centred_largest_score": self.criterion.joined.centred_score_max.tolist(),
            "raised_by_prompt": self.criterion.raised_by_prompt.tolist(),
            "joined": sizes(self.joined),
            "content": sizes(self.content),
            "meaning": list(self.meaning),
        }


def norm_report(
    query: Float[Tensor, "*query_batch q head_dim"],
    key: Float[Tensor, "*key_batch n head_dim"],
    prompt_length: int = 0,
    mask: Bool[Tensor, "batch n"] | None = None,
    scale: float | None = None,
    tol: float = 1e-2,
    workspace: int = 2**28,
) -> NormReport:
    """The norm criterion of each head, and what the polynomial method would need there.

    Degrees are for the least favourable values, half of them at either end of their range. The largest score is
    looked for among all pairs, so the time is that of exact attention.

    Args:
        query: (batch, heads, q, head_dim) as captured, after any rotation; missing leading axes count as 1. For all n
            positions, or for the content's only.
        key: (batch, kv_heads, n, head_dim), the prompt's positions first.
        prompt_length: how many leading positions are the prompt's.
        mask: (batch, n), True at visible positions, some of the content in each row.
        scale: the factor on q.k; None means 1/sqrt(head_dim).
        tol: range error, positive.
        workspace: bytes that features may take.

    Raises:
        InputError: listing every argument that does not fit, as `norm_criterion`.

    Reference: Hu et al. 2025, Theorems 3.1 and 3.2; theorem keys ``almost-linear-hardness`` and
    ``polynomial-remainder``.
    """
    query, key = (item[(None,) * max(0, 4 - item.ndim)].detach() for item in (query, key))
    faults = _faults(query, key, prompt_length, mask, scale, tol)
    raise_if_any(faults + criterion_faults(query, key, prompt_length, None if faults else mask))
    criterion = norm_criterion(query, key, prompt_length, mask, scale)
    parts = with_and_without_prompt(query.double(), key.double(), prompt_length, mask, scale)
    joined, content = (_sizes(part, tol, workspace) for part in parts)
    return NormReport(criterion, joined, content, tol)


def _faults(
    query: Tensor, key: Tensor, prompt_length: int, mask: Tensor | None, scale: float | None, tol: float
) -> list[Fault]:
    """Faults that `norm_criterion` does not look for."""
    faults = [] if 0 < tol < float("inf") else [Fault("tol", repr(tol), "a positive finite number")]
    if scale is not None and not math.isfinite(scale):
        faults.append(Fault("scale", repr(scale), "a finite number", "None means 1/sqrt(head_dim)"))
    elif query.numel() and key.numel():
        faults += entry_faults({"query": query, "key": key}, query, scale)
    if mask is not None and mask.dtype != torch.bool:
        faults.append(Fault("mask", f"dtype {mask.dtype}", "bool, True at visible positions"))
    elif mask is not None and mask.ndim == 2:
        hidden = (~mask[:, prompt_length:].any(dim=1)).nonzero().flatten().tolist()
        if hidden:
            seen = f"no visible content in batch rows {', '.join(map(str, hidden[:5]))}"
            faults.append(Fault("mask", seen, "visible content in each row", "Leave such rows out of the batch"))
    return faults


def _sizes(states: States, tol: float, workspace: int) -> Sizes:
    def sizes(query: Tensor, key: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        largest_query, largest_key = (item.norm(dim=-1).amax(dim=(0, 2)) for item in (query, key))
        return largest_query, largest_key.repeat_interleave(states.group), _typical(query, key, states)

    raw, moved = (sizes(*pair) for pair in states.raw_and_centred())
    degrees, ranks, works = zip(*(_need(heads, tol, workspace) for heads in _heads(states)), strict=True)
    return Sizes(*raw, *moved, degrees, ranks, works)


def _typical(query: Tensor, key: Tensor, states: States) -> Tensor:
    """The root mean square of all scores, through second moments: mean (q.k)^2 = trace(E[q q^T] E[k k^T])."""
    keys = (key.mT @ key / states.mask.sum(dim=1)[:, None, None, None]).repeat_interleave(states.group, dim=1)
    queries = query.mT @ query / states.query_mask.sum(dim=1)[:, None, None, None]
    squares = (queries * keys).sum(dim=(2, 3)).clamp_min(0.0)
    return torch.amax(abs(states.scale) * squares.sqrt(), dim=0)


def _heads(states: States) -> Iterator[list[Head]]:
    """For each query head, its visible queries and keys in every row of the batch, with values at the two ends."""
    for head in range(states.query.shape[1]):
        rows = []
        for query, key, shown, visible in zip(states.query, states.key, states.query_mask, states.mask, strict=True):
            keys = key[head // states.group][visible]
            ends = (torch.arange(len(keys), device=keys.device) % 2).double()[:, None]
            rows.append(Head(query[head][shown][None], keys, ends, states.scale))
        yield [item for item in rows if item.query.numel() and item.key.numel()]


def _need(heads: list[Head], tol: float, workspace: int) -> tuple[int | None, int | None, float | None]:
    """The largest degree, rank and predicted share of exact work over the rows of one head."""
    try:
        found = [(*needed_degree(head, tol, workspace), head) for head in heads]
    except ToleranceNotReachedError:
        return None, None, None
    degree, variables, head = max(found, key=lambda item: rank(item[1], item[0]))
    features, width = rank(variables, degree), head.key.shape[1]
    exact = head.query.shape[1] * len(head.key) * (2 * width + EXPONENTIAL)
    fast = (head.query.shape[1] + len(head.key)) * features * (width + 2)
    return degree, features, fast / exact
