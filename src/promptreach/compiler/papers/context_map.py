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
from functools import cached_property, lru_cache
from operator import mul

import torch
from jaxtyping import Float
from torch import Tensor

from promptreach import rounding
from promptreach.compiler.papers import tabulated
from promptreach.compiler.papers.codebook import Codebook
from promptreach.compiler.papers.separation import WIDE, Separation, separation_of, softmax_shares
from promptreach.compiler.papers.step_function import StepFunction, changes
from promptreach.rounding import EXP_UNITS

# nu: how far scores may depend on the own token, in nats.
_MOVED = 0.125
_DIGITS = 45


@dataclass(frozen=True, eq=False)
class ContextMap:
    """The attention weights of the contextual map for every function of a codebook, and the ids that it gives.

    Attributes:
        codebook: the functions.
        dtype: of the arithmetic, "float64" or "float32".
        rank: of the attention weights.
    """

    codebook: Codebook
    dtype: str
    rank: int

    @property
    def own(self) -> int:
        """How many codes a content token may have."""
        return int(self.codebook.cells**self.codebook.dim)

    @property
    def counts(self) -> list[int]:
        """How many codes each position may have: slots, then content."""
        codebook = self.codebook
        return [codebook.levels**codebook.dim] * codebook.prompt_length + [self.own] * codebook.tokens

    @property
    def spread(self) -> int:
        """Distance between own numbers."""
        return max(self.counts) + 3

    @cached_property
    def _features(self) -> tuple[Tensor, Tensor]:
        """Position features: scores spaced for mixed-radix digits, and random directions for ranks above 1.

        Scores start at 1, so that no token of the vocabulary is 0, which paper B's bound could not speak about.
        """
        moved = math.exp(2 * _MOVED) if self.rank > 1 else 1.0
        generator = torch.Generator().manual_seed(0)
        score = 2 * torch.rand(len(self.counts), self.rank, generator=generator, dtype=torch.float64) - 1
        total = 0.0
        for position, count in enumerate(self.counts):
            # Before the first digit any weights do; different ones keep tokens of one code apart.
            weight = 1 + moved * total + (position if total == 0 else 0)
            score[position, 0] = 1 + math.log(weight)
            total += weight * (count - 1)
        turn = 2.0 * torch.randint(0, 2, (self.rank,), generator=generator) - 1
        turn[0] = 0
        dtype = getattr(torch, self.dtype)
        return score.to(dtype), turn.to(dtype)

    @property
    def score(self) -> Float[Tensor, "positions rank"]:
        """Position features of prompt slots and content tokens: scores first."""
        return self._features[0]

    @property
    def turn(self) -> Float[Tensor, " rank"]:
        """How queries depend on the own code."""
        return self._features[1]

    def queries(self) -> dict[tuple[int, int], list[float]]:
        """The query of each own (position, code), as the attention computes it, in exact float64 of the weights."""
        tau, found = query_scale(self.rank), {}
        for position in range(self.codebook.tokens):
            features = self.score[self.codebook.prompt_length + position].tolist()
            for code in range(self.own):
                share = code / max(self.own - 1, 1)
                turned = [tau * (feature + sign * share) for feature, sign in zip(features, self.turn, strict=True)]
                found[position, code] = [1.0, *map(float, turned[1:])]
        return found

    @cached_property
    def _shares(self) -> tuple[dict[tuple[int, int], list[Decimal]], Decimal]:
        """The softmax weights of all positions as each own token sees them, and the separation that they prove."""
        keys = [[Decimal(entry) for entry in row] for row in self.score.double().tolist()]
        queries, least = self.queries(), Decimal(1)
        # With rank 1 all own tokens have the same query.
        seen: dict[tuple[float, ...], list[Decimal]] = {}
        with localcontext(WIDE):
            for query in {tuple(query) for query in queries.values()}:
                exact = [Decimal(entry) for entry in query]
                scores = [sum((q * k for q, k in zip(exact, key, strict=True)), Decimal(0)) for key in keys]
                seen[query] = softmax_shares(scores)
                lower = Decimal(0)
                for share, count in zip(seen[query], self.counts, strict=True):
                    if count > 1:
                        least = min(least, share - lower)
                    lower += share * (count - 1)
        return {token: seen[tuple(query)] for token, query in queries.items()}, least

    @property
    def separation(self) -> float:
        """PROVED least distance between two ids, rounded down."""
        return float(self._shares[1]) * (1 - 2.0**-50)

    @cached_property
    def staircase(self) -> StepFunction:
        """The table of ids, in float64."""
        ids, heights = self._ids()
        order = ids.argsort()
        ids, heights = ids[order], heights[order]
        steps = changes(heights)
        gap = ids[steps + 1] - ids[steps]
        return StepFunction(3 / gap, ids[steps] * (3 / gap) + 1, heights.diff(dim=0)[steps], heights[0])

    def _ids(self) -> tuple[Float[Tensor, " ids"], Float[Tensor, "ids dim"]]:
        """The id of every (function, cell, token) and the levels of the output there, in float64."""
        codebook, tables = self.codebook, tabulated.all_tables(self.codebook)
        prompts, contents = tabulated.prompt_codes(codebook, tables).double(), tabulated.content_codes(codebook)
        ids, heights = [], []
        for (position, code), weights in self._shares[0].items():
            numbers = torch.tensor([float(weight) for weight in weights], dtype=torch.float64)
            here = (contents[:, position] == code).nonzero()[:, 0]
            means = (prompts @ numbers[: codebook.prompt_length])[:, None]
            means = means + contents[here].double() @ numbers[codebook.prompt_length :]
            constant = 1 + self.spread * (code + position * self.own) + self._drift(weights)
            ids.append((means + constant).flatten())
            output = tables[:, here, position * codebook.dim : (position + 1) * codebook.dim]
            heights.append(output.reshape(-1, codebook.dim).double())
        return torch.cat(ids), torch.cat(heights)

    def _drift(self, weights: list[Decimal]) -> float:
        """What the value directions beyond the first add to an id: within 1, the same for all contexts of a token."""
        with localcontext(WIDE):
            rows = zip(weights, self.score.double().tolist(), strict=True)
            total = sum((weight * Decimal(entry) for weight, row in rows for entry in row[1:]), Decimal(0))
            return float(total / self.rank)

    @cached_property
    def resolved(self) -> bool:
        """Whether every id meets its jump at 0 or 1: its error is below the reciprocal of the steepest jump's slope."""
        positions, unit = len(self.score), rounding.EXACT_UNIT[self.dtype]
        if unit * 4 * (positions + self.rank + 64) >= Fraction(1, 64):
            return False
        steepest = Fraction(float(self.score[:, 0].max())) + 1
        sigma = 2 * rounding.exact_gamma(4 * self.rank + 32, self.dtype) * steepest
        if sigma >= Fraction(1, 4):
            return False
        lost = sigma / (1 - sigma) + rounding.exact_gamma(4 * positions + 4 * EXP_UNITS, self.dtype)
        # Both the forward pass and the table's own ids err; the jump is a product and a sum away.
        highest = Fraction(self.spread * self.own * self.codebook.tokens + self.spread)
        moved = 2 * lost * (max(self.counts) + 2) + 16 * unit * highest
        return moved * 3 < Fraction(self._shares[1]) * Fraction(63, 64)

    @cached_property
    def vocabulary(self) -> tuple[float, float, float]:
        """The smallest and largest norm and the least distance of all rows (position, features, code) that can be read.

        Rows of one position differ in the code alone, by whole numbers, and every position has code 0: so rows of
        different positions are nearest at equal codes, and there as far apart as their positions.
        """
        flags = torch.zeros(len(self.counts), self.codebook.tokens, dtype=torch.float64)
        flags[self.codebook.prompt_length :] = torch.eye(self.codebook.tokens)
        positions = torch.cat([flags, self.score.double()], dim=1)
        norms, highest = positions.norm(dim=1), torch.tensor(self.counts, dtype=torch.float64) - 1
        between = float(torch.pdist(positions).min())
        least = min(between, 1.0) if max(self.counts) > 1 else between
        return float(norms.min()), float(norms.hypot(highest).max()), least

    def measured(self) -> Separation:
        """The separation over all contexts of the codebook, every id computed exactly from the weights as they stand.

        At least the proved `separation`: tables that no function of the class has need not be told apart.
        """
        slots, unit = self.codebook.prompt_length, Decimal(10) ** _DIGITS
        prompts = tabulated.prompt_codes(self.codebook, tabulated.all_tables(self.codebook)).tolist()
        contents = tabulated.content_codes(self.codebook).tolist()
        ids: list[int] = []
        for (position, code), weights in self._shares[0].items():
            with localcontext(WIDE):
                whole = [int(weight * unit) for weight in weights]
                constant = int((1 + self.spread * (code + position * self.own)) * unit)
                constant += int(Decimal(self._drift(weights)) * unit)
            here = [row for row in contents if row[position] == code]
            behind = [sum(map(mul, whole[slots:], row)) for row in here]
            for row in prompts:
                front = constant + sum(map(mul, whole[:slots], row))
                ids.extend(front + rest for rest in behind)
        return separation_of(ids, _DIGITS)


@lru_cache(maxsize=8)
def context_map(codebook: Codebook, dtype: str, rank: int) -> ContextMap:
    """The contextual map of a codebook, computed once."""
    return ContextMap(codebook, dtype, rank)


def query_scale(rank: int) -> float:
    """The tau for which |q_r| <= 2 tau on rank - 1 directions with |k_r| <= 1 moves scores by at most nu."""
    return _MOVED / (2 * (rank - 1)) if rank > 1 else 0.0
