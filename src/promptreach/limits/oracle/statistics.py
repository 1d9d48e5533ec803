"""Statistics of what a head sees of each example, in float64, with an account of the rounding.

A prompt of any length enters the output of a head at one query only through its mass a and value sum b there:

    u_i = (N_i + b) / (Z_i + a),   Z_i = sum_j exp(s_ij),   N_i = sum_j exp(s_ij) v_ij over the content of example i.

So everything this room decides of one head at one query token it decides from (log Z_i, N_i / Z_i). The masses keep
their absolute size: a prompt adds the *same* a to every Z_i, and a shift of the scores of one example alone would break
that.

Every computed quantity carries a radius: the true number, of exact arithmetic on the weights as given, lies within it.
Radii assume IEEE float64, products that are sums of products in some order, and exp, log and sqrt to one unit in the
last place; counts of roundings are rounded up. What underflows is counted apart, `_LOST` for each product: entries of
weights and sequences are at most 1e30 (`checks`), so that nothing overflows.

Reference: theorem keys ``statistics-complete`` and ``one-query-reachability``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch
from jaxtyping import Float
from torch import Tensor

from promptreach.balls import Ball
from promptreach.limits.oracle.scales import row_norms
from promptreach.rounding import UNIT, gamma
from promptreach.weights import AttentionWeights, NormWeights

_LOST = 2.0**-900  # more than a product loses in underflow where one factor is at most 1e30


@dataclass(frozen=True, eq=False)
class HeadStatistics:
    """One head at one query token, over the examples that share it.

    Attributes:
        lse: log Z_i in nats, absolute (never shifted).
        mean: N_i / Z_i, the head's output without a prompt.
        lse_error, mean_error: how far both may be off; the second in Euclidean norm.
        query: the head's query vector q, or None for captured statistics where only its being 0 matters.
        slope: g, so that a soft token p has score g.p + offset at this query; None where keys are normalised.
        offset: scale * q.key_bias, in nats.
        zero_query: True when what the keys meet in the softmax is exactly 0, behind a norm on queries as well: then
            every slot has mass exactly 1, whatever its key.
    """

    lse: Float[Tensor, " examples"]
    mean: Float[Tensor, "examples value_dim"]
    lse_error: Float[Tensor, " examples"]
    mean_error: Float[Tensor, " examples"]
    query: Float[Tensor, " head_dim"] | None = None
    slope: Float[Tensor, " hidden"] | None = None
    offset: float = 0.0
    zero_query: bool = False

    @property
    def known_query(self) -> Float[Tensor, " head_dim"]:
        """The query vector.

        Raises:
            ValueError: for captured statistics without one.
        """
        if self.query is None:
            raise ValueError("captured statistics carry no query to build a key from")
        return self.query


def group_by_query(sequences: Sequence[Tensor]) -> list[list[int]]:
    """The indices of the examples that share their last token exactly, in order of first appearance."""
    groups: dict[bytes, list[int]] = {}
    for index, sequence in enumerate(sequences):
        # Adding 0.0 turns -0.0 into 0.0: the same number must give the same key.
        key = (sequence[-1].double() + 0.0).numpy().tobytes()
        groups.setdefault(key, []).append(index)
    return list(groups.values())


def head_statistics(weights: AttentionWeights, sequences: Sequence[Tensor], head: int = 0) -> HeadStatistics:
    """The statistics of one head at the last token, which all `sequences` share.

    Keys are never formed where nothing normalises them: a score is x.g with g = scale * W_k^T q.

    Args:
        weights: of the layer, in float64, without rotation.
        sequences: each (tokens, hidden), float64.
        head: which one.
    """
    group = head * weights.num_kv_heads // weights.num_heads
    query, slope, offset, zero = scores_of(weights, sequences[0][-1], head)
    key_bias = None if weights.key_bias is None else weights.key_bias[group]
    value_bias = None if weights.value_bias is None else weights.value_bias[group]
    lses, log_errors, inputs = [], [], []
    for sequence in sequences:
        if weights.key_norm is None:
            scores = affine(sequence, None, slope)
            scores = Ball(scores.centre + offset.centre, scores.radius + offset.radius)
        else:
            keys = normed(weights.key_norm, affine(weights.key[group], key_bias, Ball.exact(sequence)))
            scores = _products(keys, query)
        lse, error, mixed = _attend(scores, sequence)
        lses.append(lse)
        log_errors.append(error)
        inputs.append(mixed)
    mixed = Ball(torch.stack([item.centre for item in inputs]), torch.stack([item.radius for item in inputs]))
    mean = affine(weights.value[group], value_bias, mixed)
    scale = weights.softmax_scale
    return HeadStatistics(
        lse=torch.stack(lses),
        mean=mean.centre,
        lse_error=torch.stack(log_errors),
        mean_error=row_norms(mean.radius) * (1 + gamma(mean.radius.shape[-1] + 8)),
        query=query.centre / scale if scale else query.centre,
        slope=slope.centre if weights.key_norm is None else None,
        offset=float(offset.centre),
        zero_query=zero,
    )


def scores_of(weights: AttentionWeights, token: Float[Tensor, " hidden"], head: int) -> tuple[Ball, Ball, Ball, bool]:
    """The scaled query q of a token, and g and c (of one entry) so that a token x has score g.x + c; whether q is 0.

    Where keys are normalised, g and c are those without the norm.
    """
    group = head * weights.num_kv_heads // weights.num_heads
    query_bias = None if weights.query_bias is None else weights.query_bias[head]
    projected = affine(weights.query[head], query_bias, Ball.exact(token))
    query = normed(weights.query_norm, projected)
    query = Ball(query.centre * weights.softmax_scale, query.radius * abs(weights.softmax_scale) * (1 + gamma(4)))
    query = Ball(query.centre, query.radius + UNIT * query.centre.abs() + _LOST)
    zero = bool((query.centre.abs() <= query.radius).all()) and query_is_zero(weights, token, head)
    if zero:
        query = Ball.exact(torch.zeros_like(query.centre))
    key_bias = None if weights.key_bias is None else weights.key_bias[group]
    slope = affine(weights.key[group].mT, None, query)
    offset = (
        Ball.exact(torch.zeros(1, dtype=torch.float64)) if key_bias is None else affine(key_bias[None], None, query)
    )
    return query, slope, offset, zero


def affine(matrix: Float[Tensor, "out in_"], bias: Tensor | None, vectors: Ball) -> Ball:
    """W x + b for each row x; a single x is summed in pairs, which rounds log2(size) times instead of size times."""
    size = matrix.shape[1]
    if vectors.centre.ndim == 1:
        middle = _summed_in_pairs(matrix * vectors.centre)
        depth = size.bit_length() + 1
    else:
        middle = vectors.centre @ matrix.mT
        depth = size
    absolute = matrix.abs().mT
    terms = vectors.centre.abs() @ absolute
    if bias is not None:
        middle, terms = middle + bias, terms + bias.abs()
    carried = vectors.radius @ absolute if vectors.radius.any() else torch.zeros_like(terms)
    return Ball(middle, (carried + gamma(depth + 2) * terms + size * _LOST) * (1 + gamma(size + 6)))


def _summed_in_pairs(terms: Float[Tensor, "rows size"]) -> Float[Tensor, " rows"]:
    while terms.shape[1] > 1:
        half = terms.shape[1] // 2
        rest = terms[:, 2 * half :]
        terms = torch.cat([terms[:, :half] + terms[:, half : 2 * half], rest], dim=1)
    return terms[:, 0]


def normed(norm: NormWeights | None, vectors: Ball) -> Ball:
    """LayerNorm or RMSNorm of each row."""
    if norm is None:
        return vectors
    middle, radius = vectors.centre, vectors.radius
    size = middle.shape[-1]
    slack = 1 + gamma(size + 12)
    if norm.kind == "layer":
        mean = middle.mean(dim=-1, keepdim=True)
        radius = (
            radius
            + radius.mean(dim=-1, keepdim=True)
            + gamma(size + 3) * (middle.abs() + middle.abs().mean(dim=-1, keepdim=True))
        )
        middle = middle - mean
    root = (middle.square().mean(dim=-1, keepdim=True) + norm.eps).sqrt()
    # x -> x / sqrt(|x|^2 / size + eps) moves by at most |dx| / root', and the root itself by at most |dx| / sqrt(size).
    moved = radius.norm(dim=-1, keepdim=True) / size**0.5
    least = (root * (1 - gamma(size + 4)) - moved).clamp(min=norm.eps**0.5 * (1 - gamma(4)))
    unit = middle / root
    spread = (radius + unit.abs() * moved) / least + gamma(size + 8) * unit.abs()
    out = unit * norm.weight
    carried = (spread * norm.weight.abs() + _LOST) * slack
    if norm.bias is None:
        return Ball(out, carried)
    return Ball(out + norm.bias, carried + gamma(3) * (out.abs() + norm.bias.abs()) * slack)


def _products(rows: Ball, vector: Ball) -> Ball:
    """The inner product of each row with one vector, both of them off by their radii."""
    size = vector.centre.shape[0]
    radius = rows.radius @ (vector.centre.abs() + vector.radius) + rows.centre.abs() @ vector.radius
    radius = radius + gamma(size + 2) * (rows.centre.abs() @ vector.centre.abs())
    return Ball(rows.centre @ vector.centre, (radius + size * _LOST) * (1 + gamma(size + 6)))


def _attend(scores: Ball, inputs: Float[Tensor, "tokens hidden"]) -> tuple[Tensor, Tensor, Ball]:
    """log sum exp of the scores, its error, and the softmax mixture of the inputs."""
    size = scores.centre.shape[0]
    lse = torch.logsumexp(scores.centre, dim=0)
    # log sum exp moves by no more than its largest argument does.
    rounding = 8 * UNIT * float(scores.centre.abs().max()) + gamma(size + 12)
    error = (scores.radius.max() + rounding) * (1 + gamma(8))
    weights = torch.softmax(scores.centre, dim=0)
    off = torch.expm1(2 * error) + gamma(2 * size + 16)
    radius = (off * (weights @ inputs.abs()) + size * _LOST) * (1 + gamma(size + 8))
    return lse, error, Ball(weights @ inputs, radius)


def query_is_zero(weights: AttentionWeights, token: Tensor, head: int) -> bool:
    """True if the scaled query of this token is 0 in exact arithmetic, behind the norm on queries where there is one.

    A norm makes 0 of a vector that is 0 (of equal entries, for a LayerNorm), times its weight, plus its bias.
    """
    norm = weights.query_norm
    if weights.softmax_scale == 0.0:
        return True
    if norm is not None and norm.bias is not None and norm.bias.any():
        # A bias can only be undone by one number, which is a root: not looked for, and masses then count as free.
        return False
    bias = None if weights.query_bias is None else weights.query_bias[head]
    entries = _projected(weights.query[head], bias, token)
    if norm is not None:
        mean = sum(entries) / len(entries) if norm.kind == "layer" else Fraction(0)
        factors = map(Fraction, norm.weight.tolist())
        entries = [Fraction((entry - mean) * factor) for entry, factor in zip(entries, factors, strict=True)]
    return not any(entries)


def _projected(matrix: Tensor, bias: Tensor | None, vector: Tensor) -> list[Fraction]:
    """W x + b in exact arithmetic."""
    entries = [Fraction(entry) for entry in vector.tolist()]
    shifts = [0.0] * matrix.shape[0] if bias is None else bias.tolist()
    return [
        sum((Fraction(weight) * entry for weight, entry in zip(row, entries, strict=True)), Fraction(shift))
        for row, shift in zip(matrix.tolist(), shifts, strict=True)
    ]
