"""Prompts for what the floors' search found: a prefix for every head and query, soft tokens where they exist.

Nothing here is trusted: whatever is built goes through a forward pass before anyone calls it a witness.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from promptreach.limits.oracle.certified import errors_over_masses
from promptreach.limits.oracle.groups import Slots, Wish, fitted_slots, shared_slots, tokens_for_slots
from promptreach.limits.oracle.witness import SoftTokens, one_slot, soft_tokens
from promptreach.prompt import Prefix, SoftPrompt
from promptreach.weights import AttentionWeights

_GRID = 400  # masses that are looked at for one that soft tokens can have


def prefix_for(weights: AttentionWeights, wishes: Sequence[Sequence[Wish]], targets: Sequence[Tensor]) -> Prefix | None:
    """Key/value slots that give every query of every head its mass and mean, or come close; None for no prompt.

    Args:
        wishes: per query group, one per head.
        targets: per query group, without the output bias.
    """
    scale = weights.softmax_scale
    if all(wish.log_mass == -math.inf for group in wishes for wish in group):
        return None
    slots = []
    for kv_head in range(weights.num_kv_heads):
        mine = _of_kv_head(weights, wishes, kv_head)
        slots.append(_slots(mine, targets, weights.output if weights.num_heads == 1 else None, scale))
    if any(item is None for item in slots):
        return None
    built = [item for item in slots if item is not None]
    longest = max(len(item.keys) for item in built)
    if any(len(item.keys) != longest for item in built):
        return None
    return Prefix(torch.stack([item.keys for item in built])[None], torch.stack([item.values for item in built])[None])


def _of_kv_head(weights: AttentionWeights, wishes: Sequence[Sequence[Wish]], kv_head: int) -> list[Wish]:
    """What all queries of all heads that read this key/value head want of it."""
    share = weights.num_heads // weights.num_kv_heads
    return [group[head] for group in wishes for head in range(kv_head * share, (kv_head + 1) * share)]


def _slots(wishes: Sequence[Wish], targets: Sequence[Tensor], output: Tensor | None, scale: float) -> Slots | None:
    if len(wishes) == 1:
        return one_slot(wishes[0].statistics, scale, wishes[0].log_mass, wishes[0].mean)
    shared = shared_slots(wishes, scale)
    if shared is not None:
        return shared
    # Without linearly independent queries only one head's groups can be fitted on their own.
    return fitted_slots(wishes, targets, output, scale) if len(wishes) == len(targets) else None


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
    if wish.log_mass == -math.inf:
        return SoftTokens(0, None, "no prompt at all is best")
    through = torch.eye(len(wish.mean), dtype=torch.float64) if weights.output is None else weights.output
    value = through @ weights.value[0]
    bias = None if weights.value_bias is None else through @ weights.value_bias[0]
    found = soft_tokens(wish.statistics, value, bias, wish.log_mass, through @ wish.mean)
    if found.number == 1 or wish.statistics.zero_query:
        return found
    # Where many masses fit (one example, for instance), another one may need fewer tokens.
    middle = float(wish.statistics.log_mass.mean())
    grid = torch.linspace(middle - 30.0, middle + 30.0, _GRID, dtype=torch.float64)
    content = wish.statistics.mean @ through.mT
    errors, means = errors_over_masses(wish.statistics.log_mass, content, targets, grid)
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
    mine = [_of_kv_head(weights, wishes, kv_head) for kv_head in range(weights.num_kv_heads)]
    tokens = tokens_for_slots(mine, slots, weights.softmax_scale, weights.value, weights.value_bias)
    return (None, why) if tokens is None else (SoftPrompt(tokens), "")
