"""Fewer slots: in closed form by groups of keys, their mass and their values, then refined by gradients.

Three steps of the closed form, each the exact answer to a small problem:

1. *Which keys.* k-means over the prefix's keys, in the metric in which queries see them (the distance of two keys is
   the root-mean-square difference of their scores), weighted by how much attention each slot gets, starting from
   slots that are much attended and far apart.
2. *Which masses.* t slots have the mass of t slots, where all m had the mass of m. The weights w >= 0 that match the
   prefix's mass at the sampled queries are a non-negative least-squares problem. A prefix has no place for a weight, so
   it goes into the key: queries have a direction u in common, u.q close to 1 for all of them, and the key + log(w) u
   scores log(w) more.
3. *Which values.* With keys fixed, the output is linear in the values: ridge least squares.

Matching mass and value of local attention is the idea of attention matching (2602.16284), which keeps a subset of the
keys and needs a bias for each slot.

Keys enter through an exponential, so no closed form finds the best ones. Refinement is Adam over keys and values, on a
random part of the sampled queries at each step; what is kept is whatever was best on all of them.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from promptreach.compression.sampled import PrefixHeads, PrefixSlots

RIDGE = 1e-3
"""On the values, relative to the mean of the normal matrix's diagonal; they are pulled to those they started from."""
COMMON_RIDGE = 1e-2
"""On the common direction: enough that it does not follow the noise of the sampled queries."""
MOST_MASS = 1e3
"""The largest weight that one slot's key carries, and one over the smallest."""
ROUNDS, MASS_ROUNDS = 15, 200

CHUNK = 768
"""Queries a step: enough for a steady gradient, few enough that a step takes milliseconds."""
RATE = 0.05
"""The first step size, in standard deviations of the keys, or of the values."""


def compact(sampled: PrefixHeads, log_copies: Float[Tensor, " slot"]) -> PrefixSlots:
    """As many slots as `log_copies` has, in place of the full prefix."""
    return match_values(sampled, match_mass(sampled, group(sampled, log_copies)))


def attended(sampled: PrefixHeads) -> Float[Tensor, "kv_head prompt"]:
    """The root-mean-square attention weight of each prefix slot over the sampled queries, content competing."""
    scores = sampled.query @ sampled.keys.mT
    total = torch.logaddexp(sampled.content.lse, sampled.prefix.lse)
    return (scores - total[..., None]).exp().square().mean(dim=1).sqrt()


def group(sampled: PrefixHeads, log_copies: Float[Tensor, " slot"]) -> PrefixSlots:
    """The weighted means of groups of slots that the sampled queries can hardly tell apart."""
    keys, values = sampled.keys, sampled.values
    weight = attended(sampled)[..., None].clamp_min(torch.finfo(keys.dtype).tiny)
    points = keys @ _metric(sampled.query)
    count = len(log_copies)
    first = _spread_out(points, weight[..., 0], count)[..., None]
    centres = points.gather(1, first.expand(-1, -1, points.shape[-1]))
    for _ in range(ROUNDS):
        members = torch.nn.functional.one_hot(torch.cdist(points, centres).argmin(dim=2), count).to(weight) * weight
        total = members.sum(dim=1)[..., None]
        # A centre that lost all its members stays where it is.
        centres = torch.where(total > 0, members.mT @ points / total, centres)
    lonely = total == 0
    picked = [tensor.gather(1, first.expand(-1, -1, tensor.shape[-1])) for tensor in (keys, values)]
    means = [
        torch.where(lonely, start, members.mT @ tensor / total)
        for start, tensor in zip(picked, (keys, values), strict=True)
    ]
    return PrefixSlots(means[0], means[1], log_copies)


def _spread_out(
    points: Float[Tensor, "kv_head prompt dim"], weight: Float[Tensor, "kv_head prompt"], count: int
) -> Int[Tensor, "kv_head chosen"]:
    """`count` slots, the most attended first, then always the one whose absence would be felt most: its weight times
    its distance to the nearest one chosen. PrefixSlots that repeat another one come last."""
    chosen = [weight.argmax(dim=1)]
    distance = torch.full_like(weight, torch.inf)
    for _ in range(count - 1):
        latest = points.gather(1, chosen[-1][:, None, None].expand(-1, 1, points.shape[-1]))
        distance = torch.minimum(distance, (points - latest).norm(dim=2))
        distance.scatter_(1, chosen[-1][:, None], -1.0)  # none is chosen twice
        chosen.append((weight * distance).argmax(dim=1))
    return torch.stack(chosen, dim=1)


def match_mass(sampled: PrefixHeads, slots: PrefixSlots) -> PrefixSlots:
    """The slots with keys moved along the queries' common direction, so that their mass is that of the prefix.

    Non-negative least squares on masses relative to the whole mass at each query, by multiplicative updates, which keep
    weights positive and never raise the residual.
    """
    total = torch.logaddexp(sampled.content.lse, sampled.prefix.lse)
    shares = (sampled.scores(slots) - total[..., None]).exp().double()
    wanted = (sampled.prefix.lse - total).exp().double()
    normal, right = shares.mT @ shares, shares.mT @ wanted[..., None]
    weights = torch.ones_like(right)
    for _ in range(MASS_ROUNDS):
        weights = weights * right / (normal @ weights).clamp_min(torch.finfo(torch.float64).tiny)
    log_weights = weights.clamp(1 / MOST_MASS, MOST_MASS).log().to(slots.keys)
    keys = slots.keys + log_weights * common_direction(sampled.query)[:, None]
    return PrefixSlots(keys, slots.values, slots.log_copies)


def match_values(sampled: PrefixHeads, slots: PrefixSlots) -> PrefixSlots:
    """The slots with the values that come closest to the target outputs, keys as they are."""
    scores = sampled.scores(slots)
    share = torch.sigmoid(torch.logsumexp(scores, dim=2) - sampled.content.lse)[..., None]
    weights = (torch.softmax(scores, dim=2) * share).double()
    missing = (sampled.target - (1 - share) * sampled.content.mean).double() - weights @ slots.values.double()
    change = _ridge(weights, missing, RIDGE)
    return PrefixSlots(slots.keys, slots.values + change.to(slots.values), slots.log_copies)


def common_direction(query: Float[Tensor, "kv_head sample head_dim"]) -> Float[Tensor, "kv_head head_dim"]:
    """The vector u for which u.q is as close to 1 as possible over the queries (ridge least squares)."""
    ones = query.new_ones(*query.shape[:2], 1, dtype=torch.float64)
    return _ridge(query.double(), ones, COMMON_RIDGE)[..., 0].to(query)


def _metric(query: Float[Tensor, "kv_head sample head_dim"]) -> Float[Tensor, "kv_head head_dim head_dim"]:
    """A factor L of the queries' second moment: |(k - k') L| is the root-mean-square difference of two keys' scores."""
    values, vectors = torch.linalg.eigh(query.mT.double() @ query.double() / query.shape[1])
    factor: Tensor = vectors * values.clamp_min(0.0).sqrt()[:, None]
    return factor.to(query)


def _ridge(matrix: Tensor, right: Tensor, ridge: float) -> Tensor:
    """argmin |matrix x - right|^2 + ridge * (mean diagonal of the normal matrix) |x|^2, a head."""
    normal: Tensor = matrix.mT @ matrix
    diagonal = normal.diagonal(dim1=1, dim2=2)
    # A head whose matrix is all zero has nothing to solve for; 1 keeps its system regular and its answer 0.
    level = diagonal.mean(dim=1, keepdim=True)
    level = torch.where(level > 0, ridge * level, 1.0)
    solved: Tensor = torch.linalg.solve(normal + torch.diag_embed(level.expand_as(diagonal)), matrix.mT @ right)
    return solved


def refine(sampled: PrefixHeads, start: PrefixSlots, steps: int, generator: torch.Generator) -> PrefixSlots:
    """`start` after `steps` of Adam on the squared relative error; for every head no worse on these queries."""
    keys, values = (part.detach().clone().requires_grad_() for part in (start.keys, start.values))
    rates = [RATE * _size(part) for part in (start.keys, start.values)]
    optimiser = torch.optim.Adam(
        [{"params": [part], "lr": rate} for part, rate in zip((keys, values), rates, strict=True)], betas=(0.9, 0.99)
    )
    for step in range(steps):
        for options, rate in zip(optimiser.param_groups, rates, strict=True):
            options["lr"] = rate * 0.5 * (1 + math.cos(math.pi * step / steps))
        chosen = torch.randperm(sampled.samples, generator=generator)[:CHUNK].to(keys.device)
        optimiser.zero_grad()
        with torch.enable_grad():
            loss = sampled.take(chosen).errors(PrefixSlots(keys, values, start.log_copies)).square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    end = PrefixSlots(keys.detach(), values.detach(), start.log_copies)
    better = (sampled.errors(end) < sampled.errors(start))[:, None, None]
    return PrefixSlots(
        torch.where(better, end.keys, start.keys), torch.where(better, end.values, start.values), start.log_copies
    )


def _size(tensor: Tensor) -> float:
    """The standard deviation over slots, averaged over heads and coordinates; that of one slot is its size."""
    spread = tensor.std(dim=1).mean() if tensor.shape[1] > 1 else tensor.abs().mean()
    return float(spread)
