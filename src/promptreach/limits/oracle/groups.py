"""One prompt for several query tokens, and for several heads: built from what each query wants, then checked elsewhere.

Each query g wants a mass a_g and a mean there. With as many slots as queries, let slot j have the share P_gj of the
prompt's mass at query g, where P = (1 - leak) I + leak/G. P is well conditioned whatever the masses, so values solve
P values = means exactly. Keys with scores log(a_g P_gj) exist when the queries are linearly independent. When they are
not, a few hundred steps of L-BFGS start from keys along the queries; what they reach is an upper bound like any other.

Heads that share keys and values (grouped-query attention) are further queries to the same slots.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from promptreach.limits.oracle.statistics import HeadStatistics

_LEAK = 1e-3
_CONDITION = 1e8  # of the queries, beyond which keys for them lose the digits that the check needs
_STEPS = 300


class Wish(NamedTuple):
    """What one query of one head wants of the prompt: its mass (log a, nats) and its mean b / a."""

    statistics: HeadStatistics
    log_mass: float
    mean: Tensor


class Slots(NamedTuple):
    """Keys (slots, head_dim) and values (slots, value_dim) of one key/value head."""

    keys: Tensor
    values: Tensor


def shared_slots(wishes: Sequence[Wish], scale: float) -> Slots | None:
    """Slots that give every query its mass and mean, or None when the queries are not linearly independent."""
    queries = torch.stack([_query(wish) for wish in wishes])
    # The size of a query is undone by the size of the key; only directions can fail.
    sizes = queries.norm(dim=1)
    if not bool((sizes > 0).all()) or len(queries) > queries.shape[1]:
        return None
    directions = queries / sizes[:, None]
    if float(torch.linalg.cond(directions)) > _CONDITION:
        return None
    count = len(wishes)
    shares = (1 - _LEAK) * torch.eye(count, dtype=torch.float64) + _LEAK / count
    scores = torch.tensor([wish.log_mass for wish in wishes], dtype=torch.float64)[:, None] + torch.log(shares)
    keys = torch.linalg.lstsq(directions, scores / (scale * sizes[:, None]), driver="gelsd").solution.mT
    values = torch.linalg.solve(shares, torch.stack([wish.mean for wish in wishes]))
    return Slots(keys, values)


def fitted_slots(
    wishes: Sequence[Wish], targets: Sequence[Float[Tensor, "n out"]], output: Tensor | None, scale: float
) -> Slots:
    """Slots fitted to all examples of all queries at once; no guarantee but that their error can be measured."""
    queries = torch.stack([_query(wish) for wish in wishes])
    squares = queries.square().sum(dim=1, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)
    log_mass = torch.tensor([[wish.log_mass] for wish in wishes], dtype=torch.float64).clamp(-20.0, 20.0)
    keys = (queries * (log_mass / (scale * squares)).nan_to_num(0.0, 0.0, 0.0)).requires_grad_()
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
    log_mass = torch.logsumexp(scores, dim=0)
    share = torch.sigmoid(log_mass - statistics.log_mass)[:, None]
    return (1 - share) * statistics.mean + share * (torch.softmax(scores, dim=0) @ values)


def tokens_for_slots(
    wishes: Sequence[Sequence[Wish]], slots: Sequence[Slots], scale: float, value: Tensor, value_bias: Tensor | None
) -> Tensor | None:
    """Soft tokens (slots, hidden) with the slots' scores at every query and with their values, or None.

    One token per slot solves slope . p + offset = score for every query and W_v p + b_v = value for every key/value
    head together, where these are solvable: as a rule when queries and value sizes together do not exceed the hidden
        size.

    Args:
        wishes, slots: per key/value head; the heads have equally many slots.
        value: (kv_heads, value_dim, hidden), value_bias: (kv_heads, value_dim).
    """
    matrices, wanted = [], []
    for head, (mine, own) in enumerate(zip(wishes, slots, strict=True)):
        for wish in mine:
            slope = wish.statistics.slope
            if slope is None:
                return None
            size = slope.norm().clamp(min=torch.finfo(torch.float64).tiny)
            matrices.append(slope[None] / size)
            wanted.append((scale * (own.keys @ _query(wish)) - wish.statistics.offset)[None] / size)
        matrices.append(value[head])
        wanted.append((own.values if value_bias is None else own.values - value_bias[head]).mT)
    matrix, right = torch.cat(matrices), torch.cat(wanted)
    tokens: Tensor = torch.linalg.lstsq(matrix, right, driver="gelsd").solution
    if float((matrix @ tokens - right).norm()) > 1e-9 * float(right.norm()):
        return None
    return tokens.mT.contiguous()


def _query(wish: Wish) -> Tensor:
    if wish.statistics.query is None:
        raise ValueError("captured statistics carry no query to build a key from")
    return wish.statistics.query
