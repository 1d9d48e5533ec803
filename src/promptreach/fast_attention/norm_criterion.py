"""Paper B's norm criterion for attention heads: entries and scores next to sqrt(log n).

It describes, and decides nothing.

Reference: Hu et al. 2025 (paper B), section 3.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from promptreach import shapes
from promptreach.errors import Fault, raise_if_any

CHUNK_BYTES = 2**26
"""The most memory that one block of scores takes, in bytes."""


@dataclass(frozen=True, eq=False)
class HeadNorms:
    """How large the queries, keys and scores of each head are. "Centred" is after both means were taken out.

    Attributes:
        query_max, key_max: B_Q and B_K, the largest absolute entry as captured.
        score_max: T, the largest absolute score, scale included, over all pairs of visible positions (also those that
            a causal mask hides).
        centred_query_max, centred_key_max, centred_score_max: the same for centred queries and keys.
        length: the longest visible sequence, in tokens.
        normalisation: sqrt(scale * head_dim), which turns an entry into one for scores written q.k / head_dim.
    """

    query_max: Float[Tensor, " heads"]
    key_max: Float[Tensor, " heads"]
    score_max: Float[Tensor, " heads"]
    centred_query_max: Float[Tensor, " heads"]
    centred_key_max: Float[Tensor, " heads"]
    centred_score_max: Float[Tensor, " heads"]
    length: int
    normalisation: float

    @property
    def sqrt_log_length(self) -> float:
        """sqrt(log n), the growth rate at which paper B's phase transition stands."""
        return math.sqrt(math.log(self.length))

    @property
    def ratio(self) -> Float[Tensor, " heads"]:
        """The larger entry bound of query and key, normalised, over sqrt(log n). Infinite for a single token."""
        return torch.maximum(self.query_max, self.key_max) * self.normalisation / self.sqrt_log_length

    @property
    def centred_ratio(self) -> Float[Tensor, " heads"]:
        """`ratio` after centring."""
        return torch.maximum(self.centred_query_max, self.centred_key_max) * self.normalisation / self.sqrt_log_length


@dataclass(frozen=True, eq=False)
class NormCriterion:
    """Paper B's criterion for each head, with the prompt's positions and without them.

    Attributes:
        joined: prompt and content together.
        content: the same captured states, the prompt's positions left out.
        prompt_length: in tokens.
    """

    joined: HeadNorms
    content: HeadNorms
    prompt_length: int

    @property
    def raised_by_prompt(self) -> Bool[Tensor, " heads"]:
        """True for heads whose largest score involves the prompt."""
        return self.joined.score_max > self.content.score_max


def norm_criterion(
    query: Float[Tensor, "batch heads q head_dim"],
    key: Float[Tensor, "batch kv_heads n head_dim"],
    prompt_length: int = 0,
    mask: Bool[Tensor, "batch n"] | None = None,
    scale: float | None = None,
) -> NormCriterion:
    """How large each head's queries, keys and scores are next to sqrt(log n), with the prompt and without it.

    This describes; it never says "efficient: yes". Paper B's phase transition (entries of order sqrt(log n)) is
    asymptotic with unspecified constants, so *no finite length has a threshold*. Beyond it only worst-case inputs are
    hard, and conditionally on SETH; a real head there may still be approximated well, and one below it may need more
    features than n. The criterion takes the largest entry, not the spectral norm, covers one layer of inference, and is
    stated for scores q.k / head_dim: hence `HeadNorms.normalisation`. What an algorithm needs to know is `score_max`,
    or rather `centred_score_max`.

    Centring is exact: subtracting the mean key changes every score of a query alike, so softmax does not move;
    subtracting the mean query multiplies key j's weight by exp(scale * mean_q . k_j), which does not depend on the
    query. Each sequence and head has its own means. A head's centred score_max is at most 4 times the raw one, and on
    real heads mostly smaller.

    Args:
        query: as captured, after any rotation. Either for all n positions, or for the content's n - prompt_length only.
        key: as captured, the prompt's positions first.
        prompt_length: how many leading positions are the prompt's.
        mask: True at visible positions, prompt included; the others enter no maximum and no mean.
        scale: the factor on q.k. None means 1/sqrt(head_dim).

    Raises:
        InputError: listing every argument that does not fit.

    Reference: Hu et al. 2025, Theorems 3.1 and 3.2; theorem keys ``almost-linear-hardness``,
    ``almost-linear-inference`` and ``centring-invariance``.
    """
    raise_if_any(criterion_faults(query, key, prompt_length, mask))
    dtype = torch.promote_types(torch.promote_types(query.dtype, key.dtype), torch.float32)
    query, key = query.detach().to(dtype), key.detach().to(dtype)
    joined, content = with_and_without_prompt(query, key, prompt_length, mask, scale)
    return NormCriterion(_head_norms(joined), _head_norms(content), prompt_length)


class States(NamedTuple):
    """Queries of the last positions and keys of all, True in the mask at visible ones, and the factor on q.k."""

    query: Float[Tensor, "batch heads q head_dim"]
    key: Float[Tensor, "batch kv_heads n head_dim"]
    mask: Bool[Tensor, "batch n"]
    scale: float

    @property
    def query_mask(self) -> Bool[Tensor, "batch q"]:
        return self.mask[:, -self.query.shape[2] :]

    @property
    def group(self) -> int:
        """Query heads a key head."""
        return self.query.shape[1] // self.key.shape[1]

    def raw_and_centred(self) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Queries and keys with 0 at hidden positions: as captured, and after both means were taken out."""
        query = self.query.masked_fill(~self.query_mask[:, None, :, None], 0.0)
        key = self.key.masked_fill(~self.mask[:, None, :, None], 0.0)
        return (query, key), (centred(self.query, self.query_mask), centred(self.key, self.mask))


def with_and_without_prompt(
    query: Tensor, key: Tensor, prompt_length: int, mask: Tensor | None, scale: float | None
) -> tuple[States, States]:
    """All positions, and the same states with the prompt's left out."""
    factor = query.shape[-1] ** -0.5 if scale is None else scale
    visible = key.new_ones(key.shape[0], key.shape[2], dtype=torch.bool) if mask is None else mask
    content = query[:, :, -(key.shape[2] - prompt_length) :], key[:, :, prompt_length:], visible[:, prompt_length:]
    return States(query, key, visible, factor), States(*content, factor)


def centred(
    states: Float[Tensor, "batch heads seq head_dim"], mask: Bool[Tensor, "batch seq"]
) -> Float[Tensor, "batch heads seq head_dim"]:
    """The states minus their mean over visible positions, for each sequence and head; hidden positions become 0."""
    visible = mask[:, None, :, None]
    mean = states.masked_fill(~visible, 0.0).sum(dim=2, keepdim=True) / visible.sum(dim=2, keepdim=True)
    # A sequence without visible positions has no mean, and nothing left to subtract it from.
    return (states - mean).masked_fill(~visible, 0.0)


def _head_norms(states: States) -> HeadNorms:
    def sizes(query: Tensor, key: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        largest_query, largest_key = (item.abs().amax(dim=(0, 2, 3)) for item in (query, key))
        return largest_query, largest_key.repeat_interleave(states.group), _largest_score(query, key, states.scale)

    raw, moved = (sizes(*pair) for pair in states.raw_and_centred())
    return HeadNorms(
        *raw,
        *moved,
        length=max(1, int(states.mask.sum(dim=1).max())),
        normalisation=math.sqrt(abs(states.scale) * states.query.shape[-1]),
    )


def _largest_score(
    query: Float[Tensor, "batch heads q head_dim"], key: Float[Tensor, "batch kv_heads n head_dim"], scale: float
) -> Float[Tensor, " heads"]:
    """The largest |scale * q.k| per head, a block of queries at a time. Hidden positions are 0 and raise nothing."""
    heads = query.shape[1]
    rows = max(1, CHUNK_BYTES // (heads * key.shape[2] * key.element_size()))
    largest = query.new_zeros(heads)
    for queries, keys in zip(query, key.repeat_interleave(heads // key.shape[1], dim=1), strict=True):
        for block in queries.split(rows, dim=1):
            scores = block @ keys.mT
            largest = torch.stack([largest, scores.amax(dim=(1, 2)), -scores.amin(dim=(1, 2))]).amax(dim=0)
    return largest * abs(scale)


def criterion_faults(query: Tensor, key: Tensor, prompt_length: int, mask: Tensor | None) -> list[Fault]:
    """Everything that does not fit in the shapes that `norm_criterion` takes."""
    dims: dict[str, int] = {}
    faults = shapes.faults("query", query, "batch heads q head_dim", dims)
    faults += shapes.faults("key", key, "batch kv_heads n head_dim", dims)
    faults += [
        Fault(name, f"shape {tuple(tensor.shape)}", "at least one entry")
        for name, tensor in (("query", query), ("key", key))
        if not tensor.numel()
    ]
    if query.ndim != 4 or key.ndim != 4 or not query.numel() or not key.numel():
        return faults
    faults += shapes.group_faults("key", dims["heads"], dims["kv_heads"])
    positions = key.shape[2]
    if not 0 <= prompt_length < positions:
        faults.append(Fault("prompt_length", str(prompt_length), f"0 to {positions - 1}, within the captured keys"))
    elif query.shape[2] not in (positions, positions - prompt_length):
        expected = f"{positions} (all), or {positions - prompt_length} (the content's)"
        faults.append(Fault("query", f"{query.shape[2]} positions", expected))
    if mask is not None:
        faults += shapes.faults("mask", mask, "batch n", dims)
    return faults
