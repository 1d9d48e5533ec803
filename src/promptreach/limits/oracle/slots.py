"""Key/value slots that give every query of every head its mass and mean, or come close.

A mass a and a mean b / a at one query q != 0 need a single key/value slot: key log(a) q / (scale |q|^2), value b / a.

Several queries: each query g wants a mass a_g and a mean there. With as many slots as queries, let slot j have the
share P_gj of the prompt's mass at query g, where P = (1 - leak) I + leak/G. P is well conditioned whatever the masses,
so values solve P values = means exactly. Keys with scores log(a_g P_gj) exist when the queries are linearly
independent. When they are not, a few hundred steps of L-BFGS start from keys along the queries; what they reach is an
upper bound like any other. Heads that share keys and values (grouped-query attention) are further queries to the same
slots.

Nothing here is trusted: whatever is built goes through a forward pass before anyone calls it a witness.

Reference: theorem key ``one-slot-prefix``.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from promptreach.limits.oracle.scales import is_finite
from promptreach.limits.oracle.statistics import HeadStatistics
from promptreach.prompt import Prefix
from promptreach.weights import AttentionWeights

MOST_TOKENS = 512
"""The longest prompt that is built slot by slot or token by token; longer ones are only counted."""

_LEAK = 1e-3
_CONDITION = 1e8  # of the queries, beyond which keys for them lose the digits that the check needs
_STEPS = 300


class Wish(NamedTuple):
    """The target statistics of one query of one head: the prompt's mass (log a, nats) and its mean b / a."""

    statistics: HeadStatistics
    lse: float
    mean: Tensor


class Slots(NamedTuple):
    """Keys (slots, head_dim) and values (slots, value_dim) of one key/value head."""

    keys: Tensor
    values: Tensor


def prefix_for(weights: AttentionWeights, wishes: Sequence[Sequence[Wish]], targets: Sequence[Tensor]) -> Prefix | None:
    """Key/value slots that give every query of every head its mass and mean, or come close; None for no prompt.

    Args:
        wishes: per query group, one per head.
        targets: per query group, without the output bias.
    """
    scale = weights.softmax_scale
    if all(wish.lse == -math.inf for group in wishes for wish in group):
        return None
    slots = [_slots(mine, scale) for mine in by_kv_head(weights, wishes)]
    if slots == [None] and weights.num_heads == 1 and len(wishes) > 1:
        # Queries that are not linearly independent: one head's groups can still be fitted together.
        slots = [fitted_slots([group[0] for group in wishes], targets, weights.output, scale)]
    built = [item for item in slots if item is not None]
    if len(built) < len(slots) or len({len(item.keys) for item in built}) > 1:
        return None
    return Prefix(torch.stack([item.keys for item in built])[None], torch.stack([item.values for item in built])[None])


def by_kv_head(weights: AttentionWeights, wishes: Sequence[Sequence[Wish]]) -> list[list[Wish]]:
    """For each key/value head what all queries of all heads that read it want of it."""
    share = weights.num_heads // weights.num_kv_heads
    return [
        [wish for group in wishes for wish in group[kv_head * share : (kv_head + 1) * share]]
        for kv_head in range(weights.num_kv_heads)
    ]


def _slots(wishes: Sequence[Wish], scale: float) -> Slots | None:
    if len(wishes) == 1:
        return one_slot(wishes[0].statistics, scale, wishes[0].lse, wishes[0].mean)
    return shared_slots(wishes, scale)


def one_slot(statistics: HeadStatistics, scale: float, lse: float, mean: Tensor) -> Slots | None:
    """Keys (slots, head_dim) and values (slots, value_dim) with the given mass and mean at the query.

    One slot for a query other than 0; for a zero query, where every slot has mass 1, as many as the mass says. None for
    a mass of 0, which takes no slots, and for more than `MOST_TOKENS` of them.

    Reference: theorem key ``one-slot-prefix``.
    """
    query = statistics.known_query
    if lse == -math.inf:
        return None
    if statistics.zero_query:
        if lse > math.log(MOST_TOKENS + 0.5):
            return None
        slots = round(math.exp(lse))
        return Slots(torch.zeros(slots, query.shape[0], dtype=torch.float64), mean.repeat(slots, 1))
    # The largest entry is taken out first: the square of a tiny query would underflow.
    largest = float(query.abs().max())
    unit = query / largest
    # A query, scale or value of extreme size can ask for a key or a value that no float64 is.
    key = unit * (lse / float(unit @ unit)) / scale / largest
    return Slots(key[None], mean[None]) if is_finite(key, mean) else None


def shared_slots(wishes: Sequence[Wish], scale: float) -> Slots | None:
    """Slots that give every query its mass and mean, or None when the queries are not linearly independent."""
    queries = torch.stack([wish.statistics.known_query for wish in wishes])
    # The size of a query is undone by the size of the key; only directions can fail.
    sizes = queries.norm(dim=1)
    if not bool((sizes > 0).all()) or len(queries) > queries.shape[1]:
        return None
    directions = queries / sizes[:, None]
    if float(torch.linalg.cond(directions)) > _CONDITION:
        return None
    count = len(wishes)
    shares = (1 - _LEAK) * torch.eye(count, dtype=torch.float64) + _LEAK / count
    scores = torch.tensor([wish.lse for wish in wishes], dtype=torch.float64)[:, None] + torch.log(shares)
    keys = torch.linalg.lstsq(directions, scores / (scale * sizes[:, None]), driver="gelsd").solution.mT
    values = torch.linalg.solve(shares, torch.stack([wish.mean for wish in wishes]))
    return Slots(keys, values) if is_finite(keys, values) else None


def fitted_slots(
    wishes: Sequence[Wish], targets: Sequence[Float[Tensor, "n out"]], output: Tensor | None, scale: float
) -> Slots:
    """Slots fitted to all examples of all queries at once; no guarantee but that their error can be measured."""
    queries = torch.stack([wish.statistics.known_query for wish in wishes])
    squares = queries.square().sum(dim=1, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)
    lse = torch.tensor([[wish.lse] for wish in wishes], dtype=torch.float64).clamp(-20.0, 20.0)
    keys = (queries * (lse / (scale * squares)).nan_to_num(0.0, 0.0, 0.0)).requires_grad_()
    values = torch.stack([wish.mean for wish in wishes]).requires_grad_()
    search = torch.optim.LBFGS(
        [keys, values], max_iter=_STEPS, line_search_fn="strong_wolfe", tolerance_grad=1e-14, tolerance_change=1e-16
    )

    def closure() -> Tensor:
        search.zero_grad()
        loss = torch.zeros((), dtype=torch.float64)
        for wish, query, wanted in zip(wishes, queries, targets, strict=True):
            outputs = with_prompt(wish.statistics, scale * (keys @ query), values)
            loss = loss + ((outputs if output is None else outputs @ output.mT) - wanted).square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    search.step(closure)  # type: ignore[no-untyped-call]
    return Slots(keys.detach(), values.detach())


def with_prompt(statistics: HeadStatistics, scores: Float[Tensor, " m"], values: Float[Tensor, "m v"]) -> Tensor:
    """The head's outputs (n, value_dim) with slots of the given scores, from the statistics alone."""
    lse = torch.logsumexp(scores, dim=0)
    share = torch.sigmoid(lse - statistics.lse)[:, None]
    return (1 - share) * statistics.mean + share * (torch.softmax(scores, dim=0) @ values)
