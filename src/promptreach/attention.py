"""The exact algebra of attention with a prompt.

A query sees its keys only through two numbers: the *mass* Z = sum exp(s_i) and the *value sum* N = sum exp(s_i) v_i.
Prompt slots add their own mass and value sum, so the output is a mixture,

    (N_X + N_P) / (Z_X + Z_P)  =  (1 - share) * N_X/Z_X  +  share * N_P/Z_P,      share = Z_P / (Z_X + Z_P),

and the prompt never changes the ratio between the weights of two content tokens. This holds for one layer at given
queries, keys and values, with any mask, scale and grouping of heads; it says nothing of deeper layers, where a prompt
has already changed the content states.

Notation:
    ====== ============================================= ===========================
    letter meaning                                       shape
    ====== ============================================= ===========================
    s      score, scale * q.k, plus an additive mask     (..., heads, q, n)
    Z      mass, kept as log Z                           (..., heads, q)
    N      value sum, kept as the mean N/Z               (..., heads, q, value_dim)
    X, P   content, prompt
    ====== ============================================= ===========================

One rule for shapes: the last two axes are positions and their vectors, the axis before them is heads, and what comes
before that is batch and broadcasts. A 2-d tensor is one head without the axis; where every tensor is 2-d, so are the
results. Head h of `heads` reads key/value head h * kv_heads // heads, separately for content and prompt.

One rule for precision: the widest dtype among the inputs, and at least float32; half-precision inputs are converted
first and results stay in float32, since a mass in bfloat16 says little.

Reference: Petrov, Torr, Bibi 2024, 2310.19698 (the mixture).
"""

from collections.abc import Mapping
from functools import reduce
from typing import NamedTuple

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from promptreach import shapes
from promptreach.errors import Fault, raise_if_any


class Statistics(NamedTuple):
    """All that a query's attention over a set of keys depends on, and all that is needed to add more keys.

    Attributes:
        lse: (..., heads, q), log Z in nats; -inf where nothing is visible.
        mean: (..., heads, q, value_dim), N/Z: the attention output over this set alone; 0 where nothing is visible.
    """

    lse: Tensor
    mean: Tensor


class _Parts(NamedTuple):
    share: Tensor
    content: Tensor
    prompt: Tensor


class Split(_Parts):
    """Attention over content and prompt, taken apart. Unpacks into its three parts.

    Attributes:
        share: (..., heads, q), the softmax weight that all prompt slots together receive, in [0, 1].
        content: (..., heads, q, value_dim), the output over the content alone.
        prompt: (..., heads, q, value_dim), the output over the prompt alone.
        log_odds: (..., heads, q), log Z_P - log Z_X in nats. The content's share is ``sigmoid(-log_odds)``, which
            keeps its digits where ``1 - share`` has lost them.
    """

    log_odds: Tensor

    @property
    def output(self) -> Tensor:
        """The attention output, (1 - share) * content + share * prompt."""
        return torch.sigmoid(-self.log_odds)[..., None] * self.content + self.share[..., None] * self.prompt


def split(
    query: Float[Tensor, "*query_batch q head_dim"],
    keys: Float[Tensor, "*key_batch n head_dim"],
    values: Float[Tensor, "*value_batch n value_dim"],
    prompt_keys: Float[Tensor, "*prompt_key_batch m head_dim"],
    prompt_values: Float[Tensor, "*prompt_value_batch m value_dim"],
    scale: float | None = None,
    mask: Shaped[Tensor, "*mask_shape"] | None = None,
) -> Split:
    """The prompt's share of attention, the content's output and the prompt's output.

    For every query, ``split(...).output`` equals softmax attention over prompt and content together, up to rounding.
    The share and its complement both keep their relative precision down to the smallest normal float, because they
    come from the difference of two log masses taken relative to one shared shift and never from a subtraction from 1.

    Where a query sees no content its share is exactly 1 and its content output is defined as 0. A prompt of zero slots
    has share 0 and output 0; so has a query that sees neither. Gradients are finite in all these cases.

    Args:
        query: (..., heads, q, head_dim).
        keys, values: (..., kv_heads, n, head_dim) and (..., kv_heads, n, value_dim).
        prompt_keys, prompt_values: the same with m slots, mostly without batch axes. Every query sees all of them.
        scale: the factor on q.k. None means 1/sqrt(head_dim).
        mask: over the content, broadcastable to (..., heads, q, n): boolean (True means visible) or added to the
            scores (-inf hides a key).

    Raises:
        InputError: listing every shape or dtype that does not fit.

    Reference: Petrov, Torr, Bibi 2024, 2310.19698; theorem key ``mixture-identity``.
    """
    raise_if_any(_faults(query, keys, values, mask, (prompt_keys, prompt_values)))
    dtype = _common_dtype(query, keys, values, prompt_keys, prompt_values)
    content_scores = _scores(query.to(dtype), keys.to(dtype), scale, mask)
    prompt_scores = _scores(query.to(dtype), prompt_keys.to(dtype), scale, None)
    # Only the difference of the log masses matters; near the shift they are small numbers and lose nothing to rounding.
    shift = torch.maximum(_peak(content_scores), _peak(prompt_scores)).nan_to_num(neginf=0.0)[..., None]
    content = _summarise(content_scores - shift, values.to(dtype))
    prompt = _summarise(prompt_scores - shift, prompt_values.to(dtype))
    return _mix(content, prompt)


def statistics(
    query: Float[Tensor, "*query_batch q head_dim"],
    keys: Float[Tensor, "*key_batch n head_dim"],
    values: Float[Tensor, "*value_batch n value_dim"],
    scale: float | None = None,
    mask: Shaped[Tensor, "*mask_shape"] | None = None,
) -> Statistics:
    """The mass and mean of every query over `keys`: two inputs with equal statistics are equal to any prompt.

    Arguments, shapes and errors are those of `split`. The value sum itself is ``exp(lse) * mean``; it overflows
    where scores are large, which is why it is not kept.

    Reference: theorem key ``statistics-complete``.
    """
    raise_if_any(_faults(query, keys, values, mask))
    dtype = _common_dtype(query, keys, values)
    return _summarise(_scores(query.to(dtype), keys.to(dtype), scale, mask), values.to(dtype))


def merge(first: Statistics, second: Statistics) -> Statistics:
    """The statistics over the union of two disjoint sets of keys, seen by the same queries.

    Commutative and associative up to rounding, with the empty set (log mass -inf, mean 0) as neutral element.

    Reference: theorem key ``statistics-merge``.
    """
    parts = _mix(first, second)
    # log(exp a + exp b) = max + log(1 + exp -|a - b|), which has a finite gradient also where one mass is 0.
    lse = torch.maximum(first.lse, second.lse) + torch.log1p(torch.exp(-parts.log_odds.abs()))
    return Statistics(lse, parts.output)


def _mix(content: Statistics, prompt: Statistics) -> Split:
    """The mixture of two sets of keys whose log masses are relative to the same shift."""
    # Where the second set is empty the first one takes everything, also if it is empty itself (-inf minus -inf).
    log_odds = (prompt.lse - content.lse).masked_fill(prompt.lse == -torch.inf, -torch.inf)
    mixture = Split(torch.sigmoid(log_odds), content.mean, prompt.mean)
    mixture.log_odds = log_odds
    return mixture


def _summarise(scores: Float[Tensor, "*batch q n"], values: Float[Tensor, "*value_batch n value_dim"]) -> Statistics:
    """The statistics of given scores; a row without a visible key gets mass 0 and mean 0, and no gradient."""
    unseen = (scores == -torch.inf).all(dim=-1, keepdim=True)
    safe = scores.masked_fill(unseen, 0.0)
    lse = torch.logsumexp(safe, dim=-1).masked_fill(unseen[..., 0], -torch.inf)
    weights = torch.softmax(safe, dim=-1).masked_fill(unseen, 0.0)
    return Statistics(lse, weights @ _for_heads(values, _heads(scores)))


def _scores(
    query: Float[Tensor, "*query_batch q head_dim"],
    keys: Float[Tensor, "*key_batch n head_dim"],
    scale: float | None,
    mask: Tensor | None,
) -> Float[Tensor, "*batch q n"]:
    products = query @ _for_heads(keys, _heads(query)).transpose(-1, -2)
    scores = products * (query.shape[-1] ** -0.5 if scale is None else scale)
    if mask is None:
        return scores
    return scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask.to(scores.dtype)


def _peak(scores: Float[Tensor, "*batch q n"]) -> Float[Tensor, "*batch q"]:
    """The largest score of each row, -inf for a row without keys; a constant to differentiation."""
    return scores.detach().amax(dim=-1) if scores.shape[-1] else scores.new_full(scores.shape[:-1], -torch.inf)


def _heads(tensor: Tensor) -> int:
    return 1 if tensor.ndim == 2 else tensor.shape[-3]


def _for_heads(tensor: Tensor, heads: int) -> Tensor:
    """Keys or values repeated so that each of `heads` query heads finds its own."""
    return tensor if tensor.ndim == 2 else tensor.repeat_interleave(heads // tensor.shape[-3], dim=-3)


def _common_dtype(*tensors: Tensor) -> torch.dtype:
    return reduce(torch.promote_types, (tensor.dtype for tensor in tensors), torch.float32)


def _faults(
    query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, prompt: tuple[Tensor, ...] = ()
) -> list[Fault]:
    """Everything that does not fit between a query and its sets of keys and values."""
    dims: dict[str, int] = {}
    content = {"keys": keys, "values": values}
    prompts = dict(zip(("prompt_keys", "prompt_values"), prompt, strict=False))
    faults = shapes.faults("query", query, "... heads? q head_dim", dims) + _set_faults(content, dims)
    shared = {axis: size for axis, size in dims.items() if axis in ("heads", "head_dim", "value_dim")}
    faults += _set_faults(prompts, shared)
    faults += shapes.broadcast_faults({"query": query, **content, **prompts})[1]
    if mask is not None and dims.keys() >= {"heads", "q", "n"}:
        batch, _ = shapes.broadcast_faults({"query": query, **content})
        faults += _mask_faults(mask, (*batch, dims["heads"], dims["q"], dims["n"]))
    return faults


def _set_faults(named: Mapping[str, Tensor], dims: dict[str, int]) -> list[Fault]:
    """Everything that does not fit in one set of keys and values, for a query with these `dims`."""
    faults = []
    for (name, tensor), axes in zip(named.items(), ("kv_heads? n head_dim", "value_heads? n value_dim"), strict=False):
        faults += shapes.faults(name, tensor, f"... {axes}", dims)
        heads = axes.split("?")[0]
        if dims.keys() >= {"heads", heads}:
            faults += shapes.group_faults(name, dims["heads"], dims[heads])
    return faults


def _mask_faults(mask: Tensor, shape: tuple[int, ...]) -> list[Fault]:
    if mask.dtype != torch.bool and not mask.is_floating_point():
        return [Fault("mask", f"dtype {mask.dtype}", "bool (True means visible) or floats added to the scores")]
    if not shapes.expands(mask.shape[-len(shape) :], shape):
        remedy = "A padding mask (batch, n) becomes mask[:, None, None, :]"
        return [Fault("mask", f"shape {tuple(mask.shape)}", f"one that broadcasts to {shape}", remedy)]
    return []
