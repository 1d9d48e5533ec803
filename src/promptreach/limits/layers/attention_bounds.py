"""Upper bounds on the Lipschitz constant of one attention branch, valid for every point of a ball.

Notation (all norms of vectors Euclidean, of matrices spectral, of stacked tokens Frobenius)
    letter   meaning
    n        tokens, the prompt's included
    r        every token that attention reads lies in the ball of radius r around 0
    spread   bound on the standard deviation of the tokens under any weights: r, or less at given states
    alpha    bound on the slope of one row's scores in the token that is attended to
    beta     bound on the branch through the query, before the value map
    kappa    bound on the column sums of the attention matrix
    M_h      output projection times value projection of head h

For one head, with or without a causal mask (docs/theory/lipschitz.md, sections 2 to 4):

    |J| <= |M_h| (sqrt(kappa (1 + alpha^2 spread^2)) + beta)        scores x_i^T A x_j: no rotation, no q/k norm
    |J| <= |M_h| (sqrt(kappa) (1 + alpha spread) + beta)            otherwise

The first is below the constants of Castin et al. 2024 for every n, and below those of paper A without a mask; so both
of those are proved too where it applies. `published` evaluates them for comparison.
"""

from dataclasses import dataclass, field
from decimal import Decimal

import torch
from torch import Tensor

from promptreach.balls import NormBall
from promptreach.limits.layers.norm_routines import NormRoutines
from promptreach.weights import AttentionWeights, NormWeights


@dataclass(frozen=True)
class Reading:
    """What a branch reads from the stream: tokens after the norm, its weight and bias left to the projections.

    Attributes:
        radius: bounds each token.
        spread: bounds each token's distance from some common centre.
        slope: bounds the Lipschitz constant of the norm without weight and bias; 1 where there is none.
    """

    radius: Decimal
    spread: Decimal
    slope: Decimal


@dataclass(frozen=True)
class BranchBound:
    """Bounds on one branch.

    Attributes:
        lipschitz: of the branch, the norm in front of it included.
        reach: bounds the Euclidean norm of each output token.
        published: the formulas of the literature at the same sizes, by name; only where they are implied.
    """

    lipschitz: Decimal
    reach: Decimal
    published: dict[str, Decimal] = field(default_factory=dict)


@dataclass(frozen=True)
class _Head:
    """One head: its bound but for the value map, |M_h|, |W_v|, and scale |A| r^2 for published formulas, or None."""

    factor: Decimal
    product: Decimal
    value: Decimal
    score: Decimal | None


def attention_bound(
    weights: AttentionWeights, norm: NormWeights | None, reading: Reading, tokens: int, routines: NormRoutines
) -> BranchBound:
    """Bounds that hold for every input whose tokens, after `norm`, fit `reading`, at most `tokens` of them."""
    output = NormBall.exact(_output(weights))
    heads = [_head(weights, norm, index, output, reading, tokens, routines) for index in range(weights.num_heads)]
    output_norm = routines.of(output)
    lipschitz = min(
        sum((head.product * head.factor for head in heads), Decimal(0)),
        output_norm * sum(((head.value * head.factor) ** 2 for head in heads), Decimal(0)).sqrt(),
    )
    stretch = min(
        sum((head.product for head in heads), Decimal(0)),
        output_norm * sum((head.value**2 for head in heads), Decimal(0)).sqrt(),
    )
    reach = stretch * reading.radius + _constant(weights, norm, output).frobenius()
    published = {name: value * reading.slope for name, value in _published(weights, heads, tokens).items()}
    return BranchBound(lipschitz * reading.slope, reach, published)


def column_sums(score_range: Decimal, tokens: int, causal: bool) -> Decimal:
    """kappa: bounds every column sum of row-stochastic matrices whose rows come from scores within `score_range`.

    A row that sees m tokens has no weight above 1 / (1 + (m - 1) e^-range). Without a mask m = n in each row; under a
    causal mask m = 1..n, and the sum over rows is below 1 + log(1 + (n - 1) e^-range) / e^-range.
    """
    least = (-score_range).exp()
    rest = (tokens - 1) * least
    if not causal:
        return tokens / (1 + rest)
    # Far below 1, log(1 + rest) would lose its digits, and n is as good.
    return min(Decimal(tokens), 1 + (1 + rest).ln() / least) if rest > Decimal("1e-6") else Decimal(tokens)


def folded(norm: NormWeights | None, matrix: Tensor, bias: Tensor | None) -> tuple[NormBall, NormBall | None]:
    """The projection and bias that act on tokens before the norm's weight w and bias b: W diag(w), W b + bias."""
    projection, offset = NormBall.exact(matrix), None if bias is None else NormBall.exact(bias)
    if norm is None:
        return projection, offset
    scaled = projection.times_columns(norm.weight.detach().to("cpu", torch.float64))
    if norm.bias is not None:
        moved = projection @ NormBall.exact(norm.bias)
        offset = moved if offset is None else moved + offset
    return scaled, offset


def _head(
    weights: AttentionWeights,
    norm: NormWeights | None,
    index: int,
    output: NormBall,
    reading: Reading,
    tokens: int,
    routines: NormRoutines,
) -> _Head:
    group = index * weights.num_kv_heads // weights.num_heads
    query, query_bias = folded(norm, weights.query[index], _at(weights.query_bias, index))
    key, key_bias = folded(norm, weights.key[group], _at(weights.key_bias, group))
    value, _ = folded(norm, weights.value[group], None)
    size = weights.value.shape[1]
    columns = NormBall(output.centre[:, index * size : (index + 1) * size], output.radius)
    scale = abs(Decimal(weights.softmax_scale))
    score = None
    if weights.rotary or weights.query_norm is not None or weights.key_norm is not None:
        query_slope, query_size = _projected(query, query_bias, weights.query_norm, reading, routines)
        key_slope, key_size = _projected(key, key_bias, weights.key_norm, reading, routines)
        alpha, beta = scale * query_size * key_slope, scale * reading.spread * key_size * query_slope
        kappa = column_sums(2 * scale * query_size * key_size, tokens, weights.causal)
        factor = kappa.sqrt() * (1 + alpha * reading.spread) + beta
    else:
        # A key bias adds the same number to all scores of a row, so softmax does not see it.
        product = routines.of_product(key.transposed, query)
        pull = Decimal(0) if query_bias is None else (key.transposed @ query_bias).frobenius()
        alpha, beta = scale * (product * reading.radius + pull), scale * product * reading.spread**2
        kappa = column_sums(2 * alpha * reading.spread, tokens, weights.causal)
        factor = (kappa * (1 + (alpha * reading.spread) ** 2)).sqrt() + beta
        score = scale * product * reading.radius**2 if query_bias is None else None
    return _Head(factor, routines.of_product(columns, value), routines.of(value), score)


def _projected(
    matrix: NormBall, bias: NormBall | None, norm: NormWeights | None, reading: Reading, routines: NormRoutines
) -> tuple[Decimal, Decimal]:
    """Bounds on slope and size of queries or keys. Rotations change neither: they are orthogonal at each position."""
    slope = routines.of(matrix)
    size = slope * reading.radius + (Decimal(0) if bias is None else bias.frobenius())
    if norm is None:
        return slope, size
    largest, rise = Decimal(float(norm.weight.abs().max())), 1 / Decimal(norm.eps).sqrt()
    moved = Decimal(0) if norm.bias is None else NormBall.exact(norm.bias).frobenius()
    return largest * rise * slope, largest * min(Decimal(matrix.centre.shape[0]).sqrt(), rise * size) + moved


def _constant(weights: AttentionWeights, norm: NormWeights | None, output: NormBall) -> NormBall:
    """What the branch gives where all tokens read as 0: weights sum to 1, so every head gives its value bias."""
    total = NormBall.exact(torch.zeros(weights.output_size) if weights.output_bias is None else weights.output_bias)
    size = weights.value.shape[1]
    for index in range(weights.num_heads):
        group = index * weights.num_kv_heads // weights.num_heads
        _, bias = folded(norm, weights.value[group], _at(weights.value_bias, group))
        if bias is not None:
            total = total + NormBall(output.centre[:, index * size : (index + 1) * size], output.radius) @ bias
    return total


def _published(weights: AttentionWeights, heads: list[_Head], tokens: int) -> dict[str, Decimal]:
    """Castin et al.'s bound, and paper A's where nothing is masked: sums over heads, with |M_h| for their |V|."""
    scores = [head.score for head in heads]
    pairs = [(head.product, score) for head, score in zip(heads, scores, strict=True) if score is not None]
    if len(pairs) < len(heads):
        return {}
    castin = sum((m * (3 * (s * s * (4 * tokens + 1) + tokens)).sqrt() for m, s in pairs), Decimal(0))
    if weights.causal:
        return {"Castin et al. 2024": castin}
    paper_a = sum((m * (1 + 8 * Decimal(tokens).sqrt() * s) for m, s in pairs), Decimal(0))
    return {"Castin et al. 2024": castin, "Wang et al. 2023": paper_a}


def _output(weights: AttentionWeights) -> Tensor:
    return torch.eye(weights.output_size, dtype=torch.float64) if weights.output is None else weights.output


def _at(bias: Tensor | None, index: int) -> Tensor | None:
    return None if bias is None else bias[index]
