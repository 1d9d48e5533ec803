"""Attention from blocks of close queries to groups of close keys: risky groups key by key, the others by one slot each.

For a block with mean query c and a group g, exp(q.k) = exp(c.k) exp((q - c).k), and the second factor varies little
inside the group. The slot of a group is therefore its *tilted* summary at c: mass Z_g = sum exp(c.k_j) and the means of
keys and values under the weights exp(c.k_j) / Z_g. As q leaves c the slot's score is right to first order; what the
values' mean misses to first order, (q - c) Cov_g(k, v), is added for all groups at once as one matrix a block, with
the covariances of the untilted group. Groups whose slot would err most, by share of the mass times the variance of
(q - c).k inside the group, are *near*: their keys are looked at one by one. The same variance, carried as one more
value of the slots, ranks the rows: those that look hardest at coarse slots are *outliers*, computed exactly. No n x n
array arises, and nothing is fitted.

A causal head is answered block by block (`causal`), and its blocks merge by their masses. One more key of known mass,
and a value coordinate that is 1 for it alone, give these, as in `fused`.

Notation:
    ========= ================================================= =======================
    letter    meaning                                           shape
    ========= ================================================= =======================
    b         blocks of queries, B queries each                 (blocks, size)
    m         groups of keys, l keys each                       (groups, size)
    w         head_dim + 1: the last coordinate carries terms   queries have 1 there
              added to a key's score
    ========= ================================================= =======================
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad
from torch.utils.checkpoint import checkpoint

from promptreach.attention import Statistics
from promptreach.fast_attention._method import HeadContext, Plan
from promptreach.fast_attention.fused import fused_attention
from promptreach.fast_attention.sampled._clusters import Clustered, cluster
from promptreach.fast_attention.sampled._method import Estimate, SampledMethod
from promptreach.fast_attention.sampled.causal import CausalHead
from promptreach.fast_attention.sampled.landmark import NO, SLOT
from promptreach.fast_attention.sampled.rows import SampledHead

NEAR = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0)
"""Near keys to choose from, in numbers of groups."""

OUTLIERS = (0.0, 0.01, 0.02, 0.04)
"""Shares of rows to choose from that are computed exactly: those with the largest risk."""

NEAR_GAIN = 0.9
"""The error falls at most like near keys to the power of minus this, from what MiniLM's heads show: where even that
would not do, the pilot stops."""

MORE_OUTLIERS = 0.04
"""The share of rows that are computed exactly on top when the first certificate misses the tolerance."""

LEAST = 1024
"""Queries and keys below which grouping is not worth its cost."""

PILOT_BLOCKS, PILOT_ROWS = 48, 16
FIRST_BLOCKS = PILOT_BLOCKS // 4
"""Blocks with which a pilot begins."""

GATHER, SUMMARY, GROUPING = 40.0, 5.0, 800.0
"""Costs of gathering a near key for a block, of summarising a key, and of grouping a point, in exact pairs:
measured at head size 32."""


def attend_clustered(problem: Clustered, near_keys: int, workspace: int) -> tuple[Statistics, Float[Tensor, " q"]]:
    """Attention of every query, with about `near_keys` keys a block looked at one by one, and the risk of each row.

    The log masses are of keys as the problem has them, centred. The risk ranks rows by how much of their attention
    falls on slots that are coarse for them.
    """
    blocks = problem.blocks.index
    step = _blocks_at_once(problem, near_keys, workspace)
    # Under autograd intermediate results are computed again instead of kept.
    parts = [
        checkpoint(_attend_blocks, problem, chosen, near_keys, use_reentrant=False)
        for chosen in torch.split(torch.arange(len(blocks), device=blocks.device), step)
    ]
    # A query that stands twice was computed twice; either copy will do.
    place = torch.empty(problem.rows, dtype=torch.long, device=blocks.device)
    place[blocks.flatten()] = torch.arange(blocks.numel(), device=blocks.device)
    output = torch.cat(parts).flatten(0, 1)[place]
    return Statistics(output[:, -1], output[:, :-2]), output[:, -2].detach()


@dataclass(frozen=True, eq=False)
class _Far:
    """Each group as one slot, seen from each block.

    Attributes:
        key: (b, m, head_dim).
        bias: (b, m), what makes the slot's score at the block's mean query its log mass.
        value: (b, m, padded).
        share: (b, m), of the mass at the mean query.
        risk: (b, m), the variance of (q - c).k over the block's queries and the group's keys.
    """

    key: Tensor
    bias: Tensor
    value: Tensor
    share: Tensor
    risk: Tensor


def _attend_blocks(problem: Clustered, chosen: Tensor, near_keys: int) -> Tensor:
    query = problem.query[chosen]
    return _combine(problem, query, query.mean(dim=1), _summaries(problem, query), near_keys)


def _summaries(problem: Clustered, query: Float[Tensor, "b B w"]) -> _Far:
    """Every group as the blocks with these queries see it."""
    middle = query.mean(dim=1)
    groups, size, width = problem.key.shape
    scores = (problem.key.flatten(0, 1) @ middle.mT).view(groups, size, len(query))
    peak = scores.detach().amax(dim=1, keepdim=True)
    weight = scores.sub_(peak).exp_()
    mass = weight.sum(dim=1)
    means = (weight.mT @ problem.content / mass[:, :, None]).transpose(0, 1)
    key, value = means[:, :, : width - 1], means[:, :, width - 1 :]
    lse = (mass.log() + peak[:, 0]).mT
    bias = lse - (key * middle[:, None, :-1]).sum(dim=2)
    share = lse.softmax(dim=1)
    with torch.no_grad():
        away = (query - middle[:, None])[:, :, :-1]
        risk = (away.mT @ away).flatten(1) @ problem.spread.mT / query.shape[1]
    return _Far(key, bias, value, share, risk)


def _combine(
    problem: Clustered, query: Float[Tensor, "b rows w"], middle: Float[Tensor, "b w"], far: _Far, near_keys: int
) -> Float[Tensor, "b rows value_dim_risk_and_mass"]:
    """The outputs of some queries of blocks, given the blocks' mean queries and what they see; then risks and log
    masses."""
    away = (query - middle[:, None])[:, :, :-1]
    harm = far.share.detach() * far.risk
    near = harm.topk(problem.near_groups(near_keys), dim=1).indices
    is_near = torch.zeros_like(harm, dtype=torch.bool).scatter_(1, near, True)
    # A near group's slot stays in its place with no mass to speak of, so that every block has as many keys.
    nothing = torch.finfo(query.dtype).min / 4
    bias = far.bias.masked_fill(is_near, nothing)
    slots = torch.cat([far.key, bias[:, :, None]], dim=2)
    key = torch.cat([_gathered(problem.key, near), slots, _sentinel(slots, -1, math.log(problem.keys))], dim=1)
    content = torch.cat([far.value[:, :, : problem.value_dim], far.risk[:, :, None]], dim=2)
    content = pad(content, (0, problem.value.shape[2] - content.shape[2]))
    place = problem.value_dim + 1
    value = torch.cat([_gathered(problem.value, near), content, _sentinel(content, place, 1.0)], dim=1)
    slope = (far.share.masked_fill(is_near, 0.0) @ problem.slope).view(len(query), away.shape[2], -1)
    seen = fused_attention(query, key, value)
    share = seen[:, :, place]
    rest = torch.log1p(-share)
    seen = seen / rest.exp()[:, :, None]
    output = (seen + away @ slope)[:, :, : problem.value_dim]
    risk = seen[:, :, problem.value_dim].detach() * away.detach().square().sum(dim=2)
    mass = math.log(problem.keys) + rest - share.log()
    return torch.cat([output, risk[:, :, None], mass[:, :, None]], dim=2)


def _sentinel(like: Float[Tensor, "b slots width"], place: int, entry: float) -> Float[Tensor, "b one width"]:
    """One more line for each block, 0 but at one place."""
    line = like.new_zeros(like.shape[2])
    line[place] = entry
    return line.expand(len(like), 1, -1)


def _gathered(groups: Float[Tensor, "m l width"], near: Int[Tensor, "b count"]) -> Float[Tensor, "b keys width"]:
    return groups.index_select(0, near.flatten()).view(len(near), -1, groups.shape[2])


def _blocks_at_once(problem: Clustered, near_keys: int, workspace: int) -> int:
    groups, size, width = problem.key.shape
    content = width + problem.value.shape[2]
    # Scores, weights and their difference; the summaries and their rearrangements; near keys, padded, twice.
    numbers = 3 * groups * size + 6 * groups * content + 4 * (near_keys + groups) * width
    return max(1, min(32, workspace // (numbers * problem.key.element_size())))


class ClusteredMethod(SampledMethod):
    """Attention with the riskiest groups of keys exact, the others summarised; time grows like n^1.5.

    Gradients reach queries, keys and values; who is grouped with whom, and which groups are near, is fixed.
    """

    name = "clustered"

    def plan(self, context: HeadContext, limit: float = math.inf) -> Plan | None:
        """The cheapest near keys and outlier rows that keep to the tolerance on a few blocks.

        Args:
            limit: a cost in exact pairs that must not be reached.
        """
        queries, n, workspace = len(context.head.rows), len(context.head.key), context.request.workspace
        if min(queries, n) < LEAST:
            return None
        if context.head.seen is not None:
            return self._causal_plan(context, limit)
        head = context.sampled
        problem = _of_head(head)
        near = [int(len(problem.key) * part) for part in NEAR]
        near = [count for count in near if _pairs(problem, count) < limit]
        context.charges.append(GROUPING * (queries + n))
        choice = _pilot(problem, head, near, limit, context) if near else None
        if choice is None:
            return None

        def estimate() -> Estimate:
            seen, risk = attend_clustered(problem, choice.near_keys, workspace)
            exact = choice.outliers, round(MORE_OUTLIERS * queries)
            return Estimate(seen.mean, choice.near_keys + len(problem.key), risk.argsort(descending=True), exact)

        groups, size = problem.key.shape[:2]
        reason = (
            f"{groups} groups of {size} keys, {problem.near_groups(choice.near_keys)} of them exact for each block of "
            f"queries; {choice.outliers} outlier queries exact"
        )
        return self._plan(context, choice.pairs, choice.error, reason, estimate)

    def _causal_plan(self, context: HeadContext, limit: float) -> Plan | None:
        """The same for each causal block, where the pilot is on the largest; exact attention costs what is visible."""
        causal, workspace = CausalHead(context.head, context.request), context.request.workspace
        if not causal.blocks:
            return None
        unit, blocks = context.pairs / causal.visible, causal.sampled
        largest = _of_head(blocks[causal.blocks[0]])

        def cost(part: float) -> float:
            sizes = ((len(block.query), len(block.key)) for block in blocks.values())
            inside = sum(
                _cost(*_counts(queries, n), int(part * _counts(queries, n)[1]), queries, n) for queries, n in sizes
            )
            return unit * (causal.beside_blocks + inside)

        allowed = [part for part in NEAR if cost(part) < limit]
        near = [int(len(largest.key) * part) for part in allowed]
        context.charges.append(GROUPING * (largest.rows + largest.keys))
        choice = _pilot(largest, blocks[causal.blocks[0]], near, math.inf, context) if near else None
        if choice is None:
            return None
        part = allowed[near.index(choice.near_keys)]
        outliers = round(choice.outliers / largest.rows * len(context.head.rows))
        pairs = cost(part) + unit * outliers * len(context.head.key)
        if pairs >= limit:
            return None

        def estimate() -> Estimate:
            output, risk = _attend_causal(causal, part, workspace)
            order = risk.argsort(descending=True)
            slots = choice.near_keys + len(largest.key)
            return Estimate(output, slots, order, (outliers, round(MORE_OUTLIERS * len(order))))

        reason = (
            f"{len(blocks)} causal blocks, of which the largest in {len(largest.key)} groups of {largest.key.shape[1]} "
            f"keys, {largest.near_groups(choice.near_keys)} of them exact for each block of queries; {outliers} "
            "outlier queries exact"
        )
        return self._plan(context, pairs, choice.error, reason, estimate)


def _attend_causal(
    causal: CausalHead, part: float, workspace: int
) -> tuple[Float[Tensor, "rows value_dim"], Float[Tensor, " rows"]]:
    """The outputs of a causal head with `part` times the groups of each block as near keys, and each row's risk.

    A row's risk is the largest of any of its blocks, whatever their shares of its attention.
    """
    risk = causal.head.value.new_zeros(causal.group, causal.head.query.shape[1])
    answers = {}
    for piece, block in causal.sampled.items():
        problem = _of_head(block)
        answers[piece], found = attend_clustered(problem, int(len(problem.key) * part), workspace)
        rows = slice(piece.start, piece.stop)
        risk[:, rows] = torch.maximum(risk[:, rows], found.view(causal.group, -1))
    return causal.output(answers), risk.flatten()


def _of_head(head: SampledHead) -> Clustered:
    """A head whose queries see all keys, clustered."""
    return cluster(head.query, head.key, head.value, *_counts(len(head.query), len(head.key)))


def _counts(queries: int, n: int) -> tuple[int, int]:
    """Blocks of queries and groups of keys."""
    return _power(queries**0.5), _power(4 * n**0.5)


class _Choice(NamedTuple):
    near_keys: int
    outliers: int
    pairs: float
    error: float


def least_pairs(queries: int, n: int) -> float:
    """Cost of the cheapest plan, in exact pairs."""
    return _cost(*_counts(queries, n), 0, queries, n)


@torch.no_grad()
def _pilot(
    problem: Clustered, head: SampledHead, near: list[int], limit: float, context: HeadContext
) -> _Choice | None:
    """The cheapest choice that will do on drawn rows of drawn blocks, charged; more near keys are taken to err less.

    It begins with a quarter of the blocks and the most near keys: where these err by a margin too much, it ends.
    """
    blocks, size = problem.blocks.index.shape
    device = head.query.device
    chosen = torch.randperm(blocks, generator=head.request.generator)[:PILOT_BLOCKS].to(device)
    drawn = torch.randint(size, (len(chosen), PILOT_ROWS), generator=head.request.generator).to(device)
    step = _blocks_at_once(problem, max(near), head.request.workspace)
    exact = problem.query.new_zeros(0, problem.value_dim)
    seen: list[tuple[Tensor, Tensor, _Far]] = []

    def look_at(part: slice) -> None:
        nonlocal exact
        own, places = chosen[part], drawn[part]
        exact = torch.cat([exact, head.exact(problem.blocks.index[own].gather(1, places).flatten())])
        for some, rows in zip(torch.split(own, step), torch.split(places, step), strict=True):
            query = problem.query[some]
            picked = query.gather(1, rows[:, :, None].expand(-1, -1, query.shape[2]))
            seen.append((picked, query.mean(dim=1), _summaries(problem, query)))
        context.charges.append((PILOT_ROWS + SUMMARY) * len(own) * problem.keys)

    def tried(count: int) -> list[_Choice]:
        blocks_seen = len(exact) // PILOT_ROWS
        slots = count + len(problem.key)
        context.charges.append(slots * (SLOT * len(exact) + GATHER * blocks_seen))
        answer = torch.cat([_combine(problem, *part, count) for part in seen]).flatten(0, 1)
        order = answer[:, -2].argsort(descending=True)
        choices = []
        for part in OUTLIERS:
            first = order[: round(part * len(order))]
            error = head.error(answer[:, :-2].index_copy(0, first, exact[first]), exact, blocks_seen)
            pairs = _pairs(problem, count) + part * len(head.query) * len(head.key)
            choices.append(_Choice(count, round(part * len(head.query)), pairs, error))
        return choices

    def good(choices: list[_Choice]) -> list[_Choice]:
        return [choice for choice in choices if choice.error <= head.request.trial_tol and choice.pairs < limit]

    look_at(slice(0, FIRST_BLOCKS))
    if min(choice.error for choice in tried(max(near))) > NO * head.request.trial_tol:
        return None
    if len(chosen) > FIRST_BLOCKS:
        look_at(slice(FIRST_BLOCKS, None))

    # Two steps up at a time, since a trial costs as much as the near keys it looks at; then the one step between.
    for place in range(1, len(near) + 1, 2):
        count = near[min(place, len(near) - 1)]
        choices = tried(count)
        if good(choices):
            return min(good(choices) + good(tried(near[place - 1])), key=lambda choice: choice.pairs)
        if min(choice.error for choice in choices) * (count / max(1, *near)) ** NEAR_GAIN > head.request.trial_tol:
            return None
    return None


def _pairs(problem: Clustered, near_keys: int) -> float:
    return _cost(len(problem.blocks.index), len(problem.key), near_keys, problem.rows, problem.keys)


def _cost(blocks: int, groups: int, near_keys: int, queries: int, n: int) -> float:
    """Predicted cost in pairs of exact attention."""
    slots = near_keys + groups
    return slots * (SLOT * queries + GATHER * blocks) + SUMMARY * blocks * n + GROUPING * (queries + n)


def _power(number: float) -> int:
    """The power of two next to `number`."""
    return 1 << max(0, round(math.log2(number)))
