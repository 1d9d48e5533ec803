"""The contextual map of `single_layer`: attention weights for which every context gets an id of its own.

Position j (prompt slots, then content tokens) has a code a_j in 0..size_j - 1 and a score that grows with j, so that
exp(score_j) > sum_{i<j} exp(score_i) (size_i - 1): the softmax mean of the codes is a number whose digits are codes.
With rank above 1 the query depends on the own token, and so do the weights; they move by factors within exp(-+nu),
which the spacing of the scores allows for. The skip connection adds `spread` times the own number
u = code + position m^dim, so that different own tokens are at least 1 apart, and for each u:

    two contexts whose highest different code is at position j have softmax means at least
    (w_j - sum_{i<j} w_i (size_i - 1)) / sum_i w_i apart, where w_i = exp(score of position i as seen by u).

The smallest of these over j and u is `ContextMap.separation`, computed from the weights as they stand: what paper B's
Lemma 2.2 bounds by exp(-5 |V|^4 ...) is here about 1 over the number of contexts, the best that one number can do.
"""

import math
from dataclasses import dataclass
from decimal import Decimal, localcontext
from fractions import Fraction
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from promptreach import rounding
from promptreach.compiler.papers import tabulated
from promptreach.compiler.papers.codebook import Codebook
from promptreach.compiler.papers.ladder import Rungs, changes
from promptreach.compiler.papers.separation import WIDE, Separation, separation_of, softmax_shares
from promptreach.compiler.parts.error_budget import EXP_UNITS

# nu: how far scores may depend on the own token, in nats.
_MOVED = 0.125
_DIGITS = 45


@dataclass(frozen=True, eq=False)
class ContextMap:
    """The attention weights of the contextual map and the ids that it gives.

    Attributes:
        codebook: the functions.
        score: (positions, rank) position features of prompt slots and content tokens: scores first.
        turn: (rank,) how queries depend on the own code.
        spread: distance between own numbers.
        separation: PROVED least distance between two ids, rounded down.
        rungs: the table, in float64.
        resolved: whether arithmetic in the plan's dtype tells all ids apart.
        smallest, largest, apart: norms and least distance of the vocabulary, as the attention reads it.
    """

    codebook: Codebook
    score: Float[Tensor, "positions rank"]
    turn: Float[Tensor, " rank"]
    spread: int
    separation: float
    rungs: Rungs
    resolved: bool
    smallest: float
    largest: float
    apart: float

    @property
    def counts(self) -> list[int]:
        """How many codes each position may have: slots, then content."""
        return _counts(self.codebook)

    def queries(self) -> dict[tuple[int, int], list[float]]:
        """The query of each own (position, code), as the attention computes it."""
        return _queries(self.codebook, self.score, self.turn)

    def measured(self) -> Separation:
        """The separation over all contexts of the codebook, every id computed exactly from the weights as they stand.

        At least the proved `separation`: tables that no function of the class has need not be told apart.
        """
        codebook, unit = self.codebook, Decimal(10) ** _DIGITS
        counts = self.counts
        shares, _ = _shares(codebook, self.score, self.turn, counts)
        tables = codebook.tables(tabulated.MOST_ENTRIES // codebook.prompt_length)
        assert tables is not None
        prompts, contents = (
            tabulated.prompt_codes(codebook, tables).tolist(),
            tabulated.content_codes(codebook).tolist(),
        )
        ids: list[int] = []
        for (position, code), weights in shares.items():
            with localcontext(WIDE):
                whole = [int(weight * unit) for weight in weights]
                constant = int((1 + self.spread * (code + position * counts[-1])) * unit)
                constant += int(Decimal(_drift(weights, self.score)) * unit)
            here = [row for row in contents if row[position] == code]
            behind = [sum(w * c for w, c in zip(whole[codebook.prompt_length :], row, strict=True)) for row in here]
            for row in prompts:
                front = constant + sum(w * c for w, c in zip(whole[: codebook.prompt_length], row, strict=True))
                ids.extend(front + rest for rest in behind)
        return separation_of(ids, _DIGITS)


def _counts(codebook: Codebook) -> list[int]:
    slots, tokens = codebook.prompt_length, codebook.tokens
    return [codebook.levels**codebook.dim] * slots + [codebook.cells**codebook.dim] * tokens


@lru_cache(maxsize=8)
def context_map(codebook: Codebook, dtype: str, rank: int) -> ContextMap:
    """Attention weights for every function of the codebook, and the table of ids."""
    own, tokens, counts = codebook.cells**codebook.dim, codebook.tokens, _counts(codebook)
    score, turn = _features(counts, rank, getattr(torch, dtype))
    spread = max(counts) + 3
    shares, separation = _shares(codebook, score, turn, counts)
    ids, heights = _ids(codebook, shares, score, spread)
    order = ids.argsort()
    ids, heights = ids[order], heights[order]
    steps = changes(heights)
    gap = ids[steps + 1] - ids[steps]
    rungs = Rungs(3 / gap, ids[steps] * (3 / gap) + 1, heights.diff(dim=0)[steps], heights[0])
    highest = Fraction(spread * own * tokens + spread)
    resolved = _resolved(score, separation, highest, max(counts), dtype)
    smallest, largest, apart = _vocabulary(codebook, score, counts)
    return ContextMap(
        codebook=codebook,
        score=score,
        turn=turn,
        spread=spread,
        separation=float(separation) * (1 - 2.0**-50),
        rungs=rungs,
        resolved=resolved,
        smallest=smallest,
        largest=largest,
        apart=apart,
    )


def _features(counts: list[int], rank: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Position features: scores spaced for mixed-radix digits, and random directions for ranks above 1.

    Scores start at 1, so that no token of the vocabulary is 0, which paper B's bound could not speak about.
    """
    moved = math.exp(2 * _MOVED) if rank > 1 else 1.0
    generator = torch.Generator().manual_seed(0)
    score = 2 * torch.rand(len(counts), rank, generator=generator, dtype=torch.float64) - 1
    total = 0.0
    for position, count in enumerate(counts):
        # Before the first digit any weights do; different ones keep tokens of one code apart.
        weight = 1 + moved * total + (position if total == 0 else 0)
        score[position, 0] = 1 + math.log(weight)
        total += weight * (count - 1)
    turn = 2.0 * torch.randint(0, 2, (rank,), generator=generator) - 1
    turn[0] = 0
    return score.to(dtype), turn.to(dtype)


def query_scale(rank: int) -> float:
    """tau: |q_r| <= 2 tau on each of rank - 1 directions with |k_r| <= 1 moves scores by at most nu."""
    return _MOVED / (2 * (rank - 1)) if rank > 1 else 0.0


def _queries(codebook: Codebook, score: Tensor, turn: Tensor) -> dict[tuple[int, int], list[float]]:
    """The query of each own (position, code), as the attention computes it, in exact float64 of the weights."""
    own, tau = codebook.cells**codebook.dim, query_scale(score.shape[1])
    found = {}
    for position in range(codebook.tokens):
        features = score[codebook.prompt_length + position].tolist()
        for code in range(own):
            turned = [
                tau * (feature + sign * code / max(own - 1, 1)) for feature, sign in zip(features, turn, strict=True)
            ]
            found[position, code] = [1.0, *map(float, turned[1:])]
    return found


def _shares(
    codebook: Codebook, score: Tensor, turn: Tensor, counts: list[int]
) -> tuple[dict[tuple[int, int], list[Decimal]], Decimal]:
    """The softmax weights of all positions as each own token sees them, and the separation that they prove."""
    keys = [[Decimal(entry) for entry in row] for row in score.double().tolist()]
    queries, least = _queries(codebook, score, turn), Decimal(1)
    # With rank 1 all own tokens have the same query.
    seen: dict[tuple[float, ...], list[Decimal]] = {}
    with localcontext(WIDE):
        for query in {tuple(query) for query in queries.values()}:
            exact = [Decimal(entry) for entry in query]
            scores = [sum((q * k for q, k in zip(exact, key, strict=True)), Decimal(0)) for key in keys]
            seen[query] = softmax_shares(scores)
            lower = Decimal(0)
            for share, count in zip(seen[query], counts, strict=True):
                if count > 1:
                    least = min(least, share - lower)
                lower += share * (count - 1)
    shares = {token: seen[tuple(query)] for token, query in queries.items()}
    return shares, least


def _ids(
    codebook: Codebook, shares: dict[tuple[int, int], list[Decimal]], score: Tensor, spread: int
) -> tuple[Float[Tensor, " ids"], Float[Tensor, "ids dim"]]:
    """The id of every (function, cell, token) and the levels of the output there, in float64."""
    tables = codebook.tables(tabulated.MOST_ENTRIES // codebook.prompt_length)
    assert tables is not None
    prompts = tabulated.prompt_codes(codebook, tables).double()
    contents = tabulated.content_codes(codebook)
    ids, heights = [], []
    for (position, code), weights in shares.items():
        numbers = torch.tensor([float(weight) for weight in weights], dtype=torch.float64)
        here = (contents[:, position] == code).nonzero()[:, 0]
        means = (prompts @ numbers[: codebook.prompt_length])[:, None]
        means = means + contents[here].double() @ numbers[codebook.prompt_length :]
        constant = 1 + spread * (code + position * codebook.cells**codebook.dim) + _drift(weights, score)
        ids.append((means + constant).flatten())
        output = tables[:, here, position * codebook.dim : (position + 1) * codebook.dim]
        heights.append(output.reshape(-1, codebook.dim).double())
    return torch.cat(ids), torch.cat(heights)


def _drift(weights: list[Decimal], score: Tensor) -> float:
    """What the value directions beyond the first add to an id: within 1, and the same for all contexts of a token."""
    rank = score.shape[1]
    with localcontext(WIDE):
        rows = score.double().tolist()
        total = sum(
            (weight * Decimal(entry) for weight, row in zip(weights, rows, strict=True) for entry in row[1:]),
            Decimal(0),
        )
        return float(total / rank)


def _resolved(score: Tensor, separation: Decimal, highest: Fraction, largest: int, dtype: str) -> bool:
    """Whether every id meets its rung at 0 or 1: its error is below the reciprocal of the steepest rung's slope."""
    positions, rank = score.shape
    unit = rounding.EXACT_UNIT[dtype]
    if rounding.EXACT_UNIT[dtype] * 4 * (positions + rank + 64) >= Fraction(1, 64):
        return False
    steepest = Fraction(float(score[:, 0].max())) + 1
    sigma = 2 * rounding.exact_gamma(4 * rank + 32, dtype) * steepest
    if sigma >= Fraction(1, 4):
        return False
    lost = sigma / (1 - sigma) + rounding.exact_gamma(4 * positions + 4 * EXP_UNITS, dtype)
    # Both the forward pass and the table's own ids err; the rung is a product and a sum away.
    moved = 2 * lost * (largest + 2) + 16 * unit * highest
    return moved * 3 < Fraction(separation) * Fraction(63, 64)


def _vocabulary(codebook: Codebook, score: Tensor, counts: list[int]) -> tuple[float, float, float]:
    """The smallest and largest norm and the least distance of all rows (position, features, code) that can be read.

    Rows of one position differ in the code alone, by whole numbers, and every position has code 0: so rows of different
    positions are nearest at equal codes, and there as far apart as their positions.
    """
    flags = torch.zeros(len(counts), codebook.tokens, dtype=torch.float64)
    flags[codebook.prompt_length :] = torch.eye(codebook.tokens)
    positions = torch.cat([flags, score.double()], dim=1)
    norms, highest = positions.norm(dim=1), torch.tensor(counts, dtype=torch.float64) - 1
    between = float(torch.pdist(positions).min())
    return float(norms.min()), float(norms.hypot(highest).max()), min(between, 1.0) if max(counts) > 1 else between
