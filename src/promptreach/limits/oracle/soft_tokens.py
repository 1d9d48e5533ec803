"""Soft tokens with a wanted mass and mean: how many it takes at least, and the tokens themselves.

A soft token p gives its key and its value from one vector. At one query it has score g.p + c and value W_v p + b_v,
so m tokens with softmax weights w_t among themselves have

    g.pbar = log a - c - H(w),      W_v pbar + b_v = b / a,      pbar = sum_t w_t p_t,      0 <= H(w) <= log m.

If g is not in the row space of W_v, one token reaches every (a, b): it moves along a direction that W_v does not see.
If g = W_v^T y, then g.pbar is fixed by b / a, H = log a - c - y.(b / a - b_v) must not be negative, and the
least number of tokens is exactly exp(H) rounded up (one token for H = 0). Then not every (a, b) is within reach of soft
tokens, whatever their number.

Nothing here is trusted: whatever is built goes through a forward pass before anyone calls it a witness.

Reference: theorem key ``soft-token-count``.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from promptreach.limits.oracle.mass_search import errors_over_masses
from promptreach.limits.oracle.slots import MOST_TOKENS, Slots, Wish, by_kv_head
from promptreach.limits.oracle.statistics import HeadStatistics
from promptreach.prompt import Prefix, SoftPrompt
from promptreach.weights import AttentionWeights

_SEEN = 1e-9  # a direction counts as unseen by W_v when it keeps this share of g
_GRID = 400  # masses that are looked at for one that soft tokens can have


class SoftTokens(NamedTuple):
    """The number of soft tokens that a mass and mean need, and these tokens where they were built.

    Attributes:
        number: the exact least number, in tokens (up to float64); None when undecided or when no number suffices.
        tokens: (number, hidden), or None when not built.
        reason: why there are none; empty otherwise.
    """

    number: int | None
    tokens: Tensor | None
    reason: str = ""


def soft_prompt_for(
    weights: AttentionWeights,
    wishes: Sequence[Sequence[Wish]],
    targets: Sequence[Tensor],
    prefix: Prefix | None,
    threshold: float,
) -> tuple[tuple[int | None, ...], SoftPrompt | None, str]:
    """The least number of soft tokens for each query group (one head), a soft prompt for all, or the reason for
    none."""
    if weights.num_heads > 1:
        return (None,) * len(wishes), *_tokens_of(weights, wishes, prefix)
    found = [_group_tokens(weights, group[0], part, threshold) for group, part in zip(wishes, targets, strict=True)]
    counts = tuple(item.number for item in found)
    if len(found) > 1:
        return counts, *_tokens_of(weights, wishes, prefix)
    tokens = found[0].tokens
    return counts, None if tokens is None else SoftPrompt(tokens), found[0].reason


def _group_tokens(weights: AttentionWeights, wish: Wish, targets: Tensor, threshold: float) -> SoftTokens:
    """Soft tokens for one query: at the best mass, or at another one that is as good within the threshold.

    Only what the output projection lets through has to be right, so it is taken together with the value projection.
    """
    if wish.lse == -math.inf:
        return SoftTokens(0, None, "no prompt at all is best")
    through = torch.eye(len(wish.mean), dtype=torch.float64) if weights.output is None else weights.output
    value = through @ weights.value[0]
    bias = None if weights.value_bias is None else through @ weights.value_bias[0]
    found = soft_tokens(wish.statistics, value, bias, wish.lse, through @ wish.mean)
    if found.number == 1 or wish.statistics.zero_query:
        return found
    # Where many masses fit (one example, for instance), another one may need fewer tokens.
    middle = float(wish.statistics.lse.mean())
    grid = torch.linspace(middle - 30.0, middle + 30.0, _GRID, dtype=torch.float64)
    content = wish.statistics.mean @ through.mT
    errors, means = errors_over_masses(wish.statistics.lse, content, targets, grid)
    good = errors <= threshold * math.sqrt(targets.numel())
    others = [soft_tokens(wish.statistics, value, bias, float(grid[k]), means[k]) for k in torch.nonzero(good)[:, 0]]
    built = [item for item in others if item.tokens is not None and item.number is not None]
    if not built:
        return found
    best = min(built, key=lambda item: item.number or 0)
    # Which mass needs the fewest tokens was only looked at on a grid, so the count is no minimum unless it is 1.
    return best if best.number == 1 else SoftTokens(None, best.tokens, best.reason)


def _tokens_of(
    weights: AttentionWeights, wishes: Sequence[Sequence[Wish]], prefix: Prefix | None
) -> tuple[SoftPrompt | None, str]:
    """Soft tokens with the very scores and values of a prefix, solved for slot by slot."""
    why = "no soft tokens have the scores and values that the queries want"
    if prefix is None:
        return None, "no prefix was built to start from"
    slots = [Slots(keys, values) for keys, values in zip(prefix.keys[0], prefix.values[0], strict=True)]
    tokens = tokens_for_slots(
        by_kv_head(weights, wishes), slots, weights.softmax_scale, weights.value, weights.value_bias
    )
    return (None, why) if tokens is None else (SoftPrompt(tokens), "")


def soft_tokens(
    statistics: HeadStatistics, value: Tensor, value_bias: Tensor | None, lse: float, mean: Tensor
) -> SoftTokens:
    """The least number of soft tokens with the given mass and mean at the query, and the tokens themselves.

    The count is exact: fewer tokens cannot have this mass and mean, and the tokens returned do.

    Args:
        value: (value_dim, hidden), the head's value projection.

    Reference: theorem key ``soft-token-count``.
    """
    slope = statistics.slope
    if slope is None:
        return SoftTokens(None, None, "keys are normalised, so the score of a soft token is not linear in it")
    wanted = mean if value_bias is None else mean - value_bias
    base = torch.linalg.lstsq(value, wanted[:, None], driver="gelsd").solution[:, 0]
    if float((value @ base - wanted).norm()) > 1e-9 * float(wanted.norm()):
        return SoftTokens(None, None, "the value projection does not reach the wanted mean")
    score = lse - statistics.offset
    if not slope.any():
        return _without_slope(base, score)
    fixed = torch.linalg.lstsq(value.mT, slope[:, None], driver="gelsd").solution[:, 0]
    hidden = slope - value.mT @ fixed
    if float(hidden.norm()) > _SEEN * float(slope.norm()):
        token = base + hidden * ((score - float(slope @ base)) / float(slope @ hidden))
        return SoftTokens(1, token[None])
    entropy = score - float(slope @ base)
    if entropy < -1e-9 * max(1.0, abs(score)):
        return SoftTokens(None, None, "no number of soft tokens has this mass together with this mean")
    if entropy > math.log(MOST_TOKENS):
        count = math.ceil(math.exp(entropy)) if entropy < 40 else None
        return SoftTokens(count, None, f"it takes exp({entropy:.1f}) soft tokens, more than are built")
    # Rounding must not turn "exactly 4" into 5.
    count = max(1, math.ceil(math.exp(max(entropy, 0.0)) * (1 - 1e-9)))
    weights = _weights_of_entropy(max(entropy, 0.0), count)
    along = slope / float(slope @ slope)
    steps = score + torch.log(weights) - float(slope @ base)
    return SoftTokens(count, base + steps[:, None] * along)


def _without_slope(base: Tensor, score: float) -> SoftTokens:
    """Every token has mass exp(offset): only whole multiples of it can be had."""
    if score > math.log(MOST_TOKENS + 0.5):
        return SoftTokens(None, None, f"only exp({score:.1f}) soft tokens can have this mass, more than are built")
    count = round(math.exp(score))
    if count < 1 or abs(math.log(count) - score) > 1e-9:
        return SoftTokens(
            None, None, "every soft token has the same mass at this query, which does not divide the wanted one"
        )
    return SoftTokens(count, base.repeat(count, 1))


def _weights_of_entropy(entropy: float, count: int) -> Float[Tensor, " count"]:
    """Softmax weights of `count` tokens with the given entropy: all but one equal."""
    if count == 1:
        return torch.ones(1, dtype=torch.float64)

    def weights(small: float) -> Tensor:
        rest = torch.full((count - 1,), small, dtype=torch.float64)
        return torch.cat([rest, rest.new_tensor([1 - (count - 1) * small])])

    low, high = 0.0, 1.0 / count
    for _ in range(200):
        middle = 0.5 * (low + high)
        values = weights(middle)
        low, high = (middle, high) if float(-(values * torch.log(values)).sum()) < entropy else (low, middle)
    return weights(high)


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
            wanted.append((scale * (own.keys @ wish.statistics.known_query) - wish.statistics.offset)[None] / size)
        matrices.append(value[head])
        wanted.append((own.values if value_bias is None else own.values - value_bias[head]).mT)
    matrix, right = torch.cat(matrices), torch.cat(wanted)
    tokens: Tensor = torch.linalg.lstsq(matrix, right, driver="gelsd").solution
    if float((matrix @ tokens - right).norm()) > 1e-9 * float(right.norm()):
        return None
    return tokens.mT.contiguous()
