"""Causal attention as blocks in which every query sees every key, and leaves that are computed exactly.

The keys are halved: the queries that see beyond the middle see all of the first half, which is a block without
causality; what is left is the same problem in each half. Below `LEAF` keys it is computed as defined. A query's blocks
are disjoint, so their masses and means merge into its output exactly: what answers blocks answers causal heads.

Queries that are the last of many keys share all earlier ones: the first block then.
"""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from promptreach.attention import Statistics, merge, statistics
from promptreach.fast_attention.fused import fused_statistics
from promptreach.fast_attention.problem import Head
from promptreach.fast_attention.sampled.rows import SampledHead
from promptreach.fast_attention.tolerance import Request

LEAF = 512
"""Keys up to which causal attention is computed as defined, in arrays of queries times keys."""
LEAF_PAIRS = 5.0
"""Cost of a pair in a leaf, in pairs of the fused kernel: scores, weights and a mask are written out."""
LEAST = 4096
"""Queries and keys of a block below which the fused kernel answers it."""


@dataclass(frozen=True)
class Piece:
    """Query positions from `start` to `stop` and keys from `first` to `last`; `full` where each sees each."""

    start: int
    stop: int
    first: int
    last: int
    full: bool


class CausalHead:
    """A causal head in pieces.

    Args:
        head: with `seen`.
        request: what is asked; its generator draws the rows of the blocks.

    Attributes:
        pieces: in an order in which a query's come one after another by their keys.
        blocks: of these the full ones with `LEAST` queries and keys, the largest first.
    """

    def __init__(self, head: Head, request: Request) -> None:
        assert head.seen is not None
        self.head, self.request, self.group = head, request, len(head.query)
        self.seen: list[int] = head.seen.tolist()
        self.unseen = asked = bisect_right(self.seen, 0)
        common = self.seen[asked] - 1 if asked < len(self.seen) else 0
        self.pieces: list[Piece] = []
        if common:
            self.pieces.append(Piece(asked, len(self.seen), 0, common, True))
        if asked < len(self.seen):
            self._cut(asked, len(self.seen), common, self.seen[-1])
        large = [piece for piece in self.pieces if piece.full and self._is_large(piece)]
        self.blocks = sorted(large, key=lambda piece: (self.pairs(piece), -piece.first), reverse=True)

    def _cut(self, start: int, stop: int, first: int, last: int) -> None:
        """The pieces of queries that see more than `first` keys and at most `last`, down to leaves."""
        if start == stop:
            return
        if last - first <= LEAF:
            self.pieces.append(Piece(start, stop, first, last, False))
            return
        middle = (first + last) // 2
        beyond = bisect_right(self.seen, middle, start, stop)
        self._cut(start, beyond, first, middle)
        if beyond < stop:
            self.pieces.append(Piece(beyond, stop, first, middle, True))
            self._cut(beyond, stop, middle, last)

    def _is_large(self, piece: Piece) -> bool:
        return min(self.group * (piece.stop - piece.start), piece.last - piece.first) >= LEAST

    def rows(self, piece: Piece) -> int:
        """Queries of a piece, over all heads of the group."""
        return self.group * (piece.stop - piece.start)

    def pairs(self, piece: Piece) -> float:
        """What a piece costs by the fused kernel, or as a leaf."""
        pairs = float(self.rows(piece) * (piece.last - piece.first))
        return pairs if piece.full else LEAF_PAIRS * pairs

    @property
    def visible(self) -> float:
        """Pairs of a query and a key that it sees: what exact causal attention costs."""
        return float(self.group * sum(self.seen))

    @property
    def beside_blocks(self) -> float:
        """What all pieces but the blocks cost."""
        large = set(self.blocks)
        return sum(self.pairs(piece) for piece in self.pieces if piece not in large)

    @cached_property
    def sampled(self) -> Mapping[Piece, SampledHead]:
        """The blocks as heads without causality; each centres its own keys."""
        return {piece: SampledHead(self._part(piece), self.request) for piece in self.blocks}

    def _part(self, piece: Piece) -> Head:
        keys, query = slice(piece.first, piece.last), self.head.query[:, piece.start : piece.stop]
        return replace(self.head, query=query, key=self.head.key[keys], value=self.head.value[keys], seen=None)

    def output(self, answers: Mapping[Piece, Statistics]) -> Float[Tensor, "rows value_dim"]:
        """Every query's output, blocks as answered and all other pieces exact; 0 where nothing is seen.

        Args:
            answers: log masses over a block's centred keys and means, of its rows.
        """
        head, q = self.head, self.head.query.shape[1]
        starts = sorted({piece.start for piece in self.pieces} | {piece.stop for piece in self.pieces})
        parts = [head.value.new_zeros(self.group, self.unseen, head.value.shape[1])]
        found = {piece: self._answered(piece, answers.get(piece)) for piece in self.pieces}
        for start, stop in pairwise(starts):
            total: Statistics | None = None
            for piece, seen in found.items():
                if piece.start <= start and stop <= piece.stop:
                    own = slice(start - piece.start, stop - piece.start)
                    some = Statistics(seen.lse[:, own], seen.mean[:, own])
                    total = some if total is None else merge(total, some)
            assert total is not None
            parts.append(total.mean)
        return torch.cat(parts, dim=1).reshape(self.group * q, -1)

    def _answered(self, piece: Piece, answer: Statistics | None) -> Statistics:
        """Log masses (group, queries) and means of one piece; centring a block's keys moves its masses by q.mean."""
        part = self._part(piece)
        if not piece.full:
            counts = self.head.seen
            assert counts is not None
            places = torch.arange(piece.first, piece.last, device=part.key.device)
            visible = places < counts[piece.start : piece.stop, None]
            return statistics(part.query, part.key, part.value, part.scale, visible)
        query, middle = part.rows * part.scale, part.key.detach().mean(dim=0)
        found = fused_statistics(query, part.key - middle, part.value) if answer is None else answer
        shape = self.group, piece.stop - piece.start
        return Statistics((found.lse + query @ middle).view(shape), found.mean.view(*shape, -1))
