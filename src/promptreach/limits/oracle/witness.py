"""From the best mass and value sum to a prompt: key/value slots, soft tokens, and the forward pass that checks them.

A mass a and a mean b / a at one query q != 0 need a single key/value slot: key log(a) q / (scale |q|^2), value b / a.

A soft token p gives its key and its value from one vector. At this query it has score g.p + c and value W_v p + b_v,
so m tokens with softmax weights w_t among themselves have

    g.pbar = log a - c - H(w),      W_v pbar + b_v = b / a,      pbar = sum_t w_t p_t,      0 <= H(w) <= log m.

If g is not in the row space of W_v, one token reaches every (a, b): it moves along a direction that W_v does not see.
If g = W_v^T y, then g.pbar is fixed by b / a, H = log a - c - y.(b / a - b_v) must not be negative, and the
least number of tokens is exactly exp(H) rounded up (one token for H = 0). Then not every (a, b) is within reach of soft
tokens, whatever their number.

Reference: theorem keys ``one-slot-prefix`` and ``soft-token-count``.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from promptreach import attention, reference
from promptreach.limits.layers import blocks
from promptreach.limits.oracle.groups import Slots
from promptreach.limits.oracle.statistics import HeadStatistics
from promptreach.prompt import Prefix, SoftPrompt
from promptreach.weights import AttentionWeights

MOST_TOKENS = 512
"""The longest soft prompt that is built; longer ones are only counted."""

_LOOPS = 10**8  # multiplications for which the reference, in plain loops, answers in a second or two
_PAIRS = 10**5  # pairs of positions, likewise
_SEEN = 1e-9  # a direction counts as unseen by W_v when it keeps this share of g


class SoftTokens(NamedTuple):
    """How many soft tokens a mass and mean need, and these tokens where they were built.

    Attributes:
        number: the exact least number, in tokens (up to float64); None when undecided or when no number suffices.
        tokens: (number, hidden), or None when not built.
        reason: why there are none; empty otherwise.
    """

    number: int | None
    tokens: Tensor | None
    reason: str = ""


def one_slot(statistics: HeadStatistics, scale: float, log_mass: float, mean: Tensor) -> Slots | None:
    """Keys (slots, head_dim) and values (slots, value_dim) with the given mass and mean at the query.

    One slot for a query other than 0; for a zero query, where every slot has mass 1, as many as the mass says. None for
    a mass of 0, which takes no slots, and for more than `MOST_TOKENS` of them.

    Reference: theorem key ``one-slot-prefix``.
    """
    if statistics.query is None:
        raise ValueError("captured statistics carry no query to build a key from")
    query = statistics.query
    if log_mass == -math.inf:
        return None
    if statistics.zero_query:
        if log_mass > math.log(MOST_TOKENS + 0.5):
            return None
        slots = round(math.exp(log_mass))
        return Slots(torch.zeros(slots, query.shape[0], dtype=torch.float64), mean.repeat(slots, 1))
    # The largest entry is taken out first: the square of a tiny query would underflow.
    largest = float(query.abs().max())
    unit = query / largest
    key = unit * (log_mass / (scale * float(unit @ unit))) / largest
    return Slots(key[None], mean[None])


def soft_tokens(
    statistics: HeadStatistics, value: Tensor, value_bias: Tensor | None, log_mass: float, mean: Tensor
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
    score = log_mass - statistics.offset
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


def last_outputs(
    weights: AttentionWeights,
    sequences: Sequence[Tensor],
    prefix: Prefix | None = None,
    prompt: SoftPrompt | None = None,
    loops: bool | None = None,
) -> Float[Tensor, "n out"]:
    """The attention block's output at the last token of every sequence, by an ordinary forward pass.

    Small problems go through `reference`, the plain loops that define attention here; for larger ones the same numbers
    come from `attention.split` on explicit keys and values. `loops` overrides the choice.
    """
    length = prompt.length if prompt is not None else 0
    work = sum((len(sequence) + length) for sequence in sequences) * weights.hidden_size * weights.head_dim
    pairs = sum((len(sequence) + length) ** 2 for sequence in sequences) * weights.num_heads
    small = pairs <= _PAIRS and work * (weights.num_heads + 2 * weights.num_kv_heads) <= _LOOPS
    forward = _by_reference if (small if loops is None else loops) else _by_split
    return torch.stack([forward(weights, sequence.double(), prefix, prompt) for sequence in sequences])


def _by_reference(
    weights: AttentionWeights, inputs: Tensor, prefix: Prefix | None, prompt: SoftPrompt | None
) -> Tensor:
    if prompt is not None:
        inputs = torch.cat([prompt.embeddings.double(), inputs])
    seen = torch.zeros(len(inputs), len(inputs), dtype=torch.bool)
    seen[-1] = True
    keys, values = (None, None) if prefix is None else (prefix.keys[0], prefix.values[0])
    return reference.attend(weights, inputs, keys, values, seen)[-1]


def _by_split(weights: AttentionWeights, inputs: Tensor, prefix: Prefix | None, prompt: SoftPrompt | None) -> Tensor:
    query = blocks.normed(weights.query_norm, blocks.projected(weights.query, weights.query_bias, inputs[-1:]))
    keys, values = _keys_and_values(weights, inputs)
    prompt_keys, prompt_values = keys[:, :0], values[:, :0]
    if prompt is not None:
        prompt_keys, prompt_values = _keys_and_values(weights, prompt.embeddings.double())
    elif prefix is not None:
        prompt_keys, prompt_values = prefix.keys[0].double(), prefix.values[0].double()
    heads = attention.split(query, keys, values, prompt_keys, prompt_values, weights.softmax_scale).output
    joined = heads[:, 0].flatten()
    out = joined if weights.output is None else weights.output @ joined
    return out if weights.output_bias is None else out + weights.output_bias


def _keys_and_values(weights: AttentionWeights, inputs: Tensor) -> tuple[Tensor, Tensor]:
    keys = blocks.normed(weights.key_norm, blocks.projected(weights.key, weights.key_bias, inputs))
    return keys, blocks.projected(weights.value, weights.value_bias, inputs)
