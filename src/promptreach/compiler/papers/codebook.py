"""The finitely many functions that stand for a whole class: what papers A and B index by prompts.

Both papers quantise twice: inputs to grid cells, and functions to tables with one of finitely many levels in each cell.
A transformer is then built as one large table over (function, cell). A `Codebook` lists the functions.

Notation
    letter      meaning                                                       papers A and B
    m           grid cells per axis                                           1/delta
    q           levels per output entry
    D           dim * tokens, the entries of one input                        dL
    C           the Lipschitz constant, in the 2-norm over all entries        C
    s           points per axis at which a cell's mean is taken

The codeword of f has in each cell the mean of f there (over s^D points), each entry rounded to the centre of its level.
Proof of `Codebook.error`: inside one cell, with X uniform and X' an independent copy, the variance of f is
E|f(X) - f(X')|^2 / 2 <= C^2 E|X - X'|^2 / 2 = C^2 D / (12 m^2). The mean over the sample points differs from the
true mean by at most C E|X - c| <= C sqrt(D / 12) / (m s), c being the nearest of them, and rounding moves it by at most
sqrt(D) / (2 q). Variance and squared offset of the mean add up. Ramps of the quantiser cover a set of inputs of measure
at most 2 D (m - 1) ramp (twice the ramps, for the rounding of their ends), where f and the output both lie in [0, 1]^D,
and the squared error is at most D.

Only tables that a C-Lipschitz function can have are listed: translating one cell onto another shows that their means
differ by at most C times the distance k between the cells, and if two entries of the means differ by t levels, their
rounded levels differ by less than t + 1. A table is left out when the sum over entries of
max(0, |level difference| - 1)^2 exceeds (q C k)^2, a little widened, so that rounding in the values of f leaves nothing
out.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from promptreach import rounding
from promptreach.compiler.plan import Question
from promptreach.errors import Fault

BEYOND = 10**4000
"""Stands for every larger number: they are of no use to anybody, and Python refuses to print them."""

MOST_ENTRIES = 2**17
"""The largest table that is listed: (function, cell, token) triples."""

_FINEST = {"float64": 2.0**-40, "float32": 2.0**-18}
"""The narrowest ramp, by dtype: wide against the rounding of an input."""

SAMPLES = 16
"""The most points per axis at which the mean over a cell is taken."""

_MOST_SAMPLES = 4096
"""The most points in one cell."""

SHARE = 2.0**-10
"""The part of tol^2 that the ramps may take."""

_WIDENING = 1 + 2.0**-20
# Distinct rows of levels that a table may draw from: beyond, comparing them pairwise would not fit either.
_MOST_ROWS = 1024
# Numbers of cells per axis that are tried above the fewest: more of them only cost tables.
_MOST_CANDIDATES = 40


@dataclass(frozen=True)
class Codebook:
    """The tables of one class of functions.

    Attributes:
        dim, tokens: of an input.
        lipschitz: C.
        cells: m, per axis.
        levels: q, per output entry.
        ramp: of the quantiser, in units of the input.
    """

    dim: int
    tokens: int
    lipschitz: float
    cells: int
    levels: int
    ramp: float

    @property
    def size(self) -> int:
        """D, the entries of one input."""
        return self.dim * self.tokens

    @property
    def num_cells(self) -> int:
        """The cells of the whole input cube; `BEYOND` where there are more."""
        return power_up_to_beyond(self.cells, self.size)

    @property
    def prompt_length(self) -> int:
        """Soft tokens of a prompt: one for each token of the output in each cell, as in papers A and B."""
        return self.num_cells * self.tokens

    @property
    def samples(self) -> int:
        """s: fewer in many dimensions, where s^D would explode; 1 takes the centre."""
        return min(SAMPLES, max(1, int(_MOST_SAMPLES ** (1 / self.size) + 1e-9)))

    @property
    def error(self) -> float:
        """At least the d_2 distance of every C-Lipschitz f to its codeword (proof: module docstring), rounded up."""
        root = rounding.sqrt_up(Fraction(self.size))
        variance = Fraction(self.lipschitz) ** 2 * self.size / (12 * self.cells**2)
        mean = rounding.sqrt_up(variance) / self.samples + self._rounded(root)
        on_ramps = 2 * self.size**2 * (self.cells - 1) * Fraction(self.ramp)
        return rounding.float_above(rounding.sqrt_up(variance + mean**2 + on_ramps))

    @property
    def sup_error(self) -> float:
        """At least |f(X) - codeword(X)| for every C-Lipschitz f and every X with no entry on a ramp, rounded up.

        At most C times the root mean square distance of X to the sample points of its cell, plus the rounding to a
        level. In each direction the mean square is at most (1/4 + 1/12) / m^2: its value at a face, as s grows.
        """
        root = rounding.sqrt_up(Fraction(self.size))
        reach = Fraction(self.lipschitz) * rounding.sqrt_up(Fraction(self.size, 3)) / self.cells
        return rounding.float_above(reach + self._rounded(root))

    def _rounded(self, root: Fraction) -> Fraction:
        """Half a level in each entry, and the float64 rounding of sample points and means."""
        summed = rounding.exact_gamma(self.samples**self.size + 8, "float64")
        return root * (Fraction(1, 2 * self.levels) + summed + Fraction(self.lipschitz) * Fraction(1, 2**51))

    def points(self) -> Float[Tensor, "points tokens dim"]:
        """Where a function is looked up: the sample points, cell by cell."""
        offsets = (torch.arange(self.samples, dtype=torch.float64) + 0.5) / self.samples
        inside = torch.cartesian_prod(*[offsets] * self.size).reshape(-1, self.size)
        return ((self.corners()[:, None] + inside) / self.cells).reshape(-1, self.tokens, self.dim)

    def encode(self, values: Float[Tensor, "points tokens dim"]) -> Int[Tensor, "cells entries"]:
        """The levels of the codeword of the function with these values at `points`."""
        means = values.reshape(self.num_cells, -1, self.size).mean(dim=1)
        return (means * self.levels).floor().clamp(0, self.levels - 1).long()

    def decode(self, table: Int[Tensor, "cells entries"]) -> Float[Tensor, "cells entries"]:
        """The values that a table stands for, in [0, 1]."""
        return (table.double() + 0.5) / self.levels

    def faults(self, table: Int[Tensor, "cells entries"], name: str) -> list[Fault]:
        """A fault if the table is of no function with the declared Lipschitz constant."""
        corners = self.corners().double()
        distance = torch.cdist(corners, corners, compute_mode="donot_use_mm_for_euclid_dist") / self.cells
        excess = _excess(table[:, None] - table[None])
        wrong = excess > (self.levels * self.lipschitz * distance) ** 2 * _WIDENING
        if not bool(wrong.any()):
            return []
        first, second = wrong.nonzero()[0].tolist()
        seen = f"means over cells {first} and {second}, {float(distance[first, second]):.3g} apart, that differ by more"
        return [Fault(name, seen, f"at most the declared Lipschitz constant {self.lipschitz:g} times their distance")]

    def tables(self, most: int) -> Int[Tensor, "tables cells entries"] | None:
        """Every admissible table as level numbers, in lexicographic order; None when there are more than `most`."""
        if self.levels**self.size > (most if self.num_cells == 1 else min(most, _MOST_ROWS)):
            return None
        rows = torch.tensor(list(itertools.product(range(self.levels), repeat=self.size)))
        if self.num_cells == 1:
            return rows[:, None]
        if len(rows) == 1:
            return torch.zeros(1, self.num_cells, self.size, dtype=torch.long)
        excess = _excess(rows[:, None] - rows[None])
        corners = self.corners().tolist()
        tables = torch.zeros(1, 0, dtype=torch.long)
        for cell in range(self.num_cells):
            allowed = torch.ones(len(tables), len(rows), dtype=torch.bool)
            for earlier in range(cell):
                distance = math.dist(corners[cell], corners[earlier]) / self.cells
                limit = (self.levels * self.lipschitz * distance) ** 2 * _WIDENING
                allowed &= (excess <= limit)[tables[:, earlier]]
            if int(allowed.sum()) > most:
                return None
            which, row = allowed.nonzero(as_tuple=True)
            tables = torch.cat([tables[which], row[:, None]], dim=1)
        return rows[tables]

    def corners(self) -> Int[Tensor, "cells entries"]:
        """The number of each cell along each axis; the order of all tables."""
        return torch.tensor(list(itertools.product(range(self.cells), repeat=self.size)))


@dataclass(frozen=True)
class CodebookChoice:
    """A codebook that was looked for.

    Attributes:
        codebook: the one with the fewest entries that reaches the error.
        entries: its (table, cell, token) triples: what the papers' feed-forward networks tabulate. Without `fits` an
            upper estimate, which counts inadmissible tables.
        fits: whether there are at most as many as were allowed, and the codebook is usable.
    """

    codebook: Codebook
    entries: int
    fits: bool


@lru_cache(maxsize=256)
def choose(
    question: Question, usable: Callable[[Codebook], bool] = lambda _: True, most: int = MOST_ENTRIES
) -> CodebookChoice:
    """The codebook with the fewest entries, at most `most`, among the usable ones whose error is at most `tol`."""
    fewest = max(1, math.floor(question.lipschitz * math.sqrt(question.size / 12) / question.tol))
    candidates = [_with_levels(question, cells) for cells in range(fewest, fewest + _MOST_CANDIDATES)]
    reaching = [codebook for codebook in candidates if codebook.error <= question.tol]
    counted = [(count, book) for book in reaching if usable(book) and (count := _entries(book, most)) is not None]
    if counted:
        entries, codebook = min(counted, key=lambda pair: pair[0])
        return CodebookChoice(codebook, entries, True)
    estimate, codebook = min(
        ((_all_entries_log10(book), book) for book in reaching or candidates), key=lambda pair: pair[0]
    )
    return CodebookChoice(codebook, max(most + 1, power_up_to_beyond(10, math.ceil(min(estimate, 1e9)))), False)


def power_up_to_beyond(base: int, exponent: int) -> int:
    """base^exponent, or `BEYOND` if that is less."""
    return BEYOND if exponent * math.log10(base) >= math.log10(BEYOND) else int(base**exponent)


def _with_levels(question: Question, cells: int) -> Codebook:
    """The codebook of so many cells with the fewest levels that reach `tol`, or with far too many if none do."""
    _, dim, tokens, lipschitz, tol, dtype = question
    size = question.size
    widest = min(SHARE * tol**2 / (2 * size**2 * max(cells - 1, 1)), 2.0**-6 / cells)
    one_level = Codebook(dim, tokens, lipschitz, cells, 1, max(2.0 ** math.floor(math.log2(widest)), _FINEST[dtype]))
    spread = lipschitz * math.sqrt(size / 12) / cells
    room = math.sqrt(max(tol**2 * (1 - SHARE) - spread**2, 0)) - spread / one_level.samples
    levels = max(1, math.floor(math.sqrt(size) / (2 * max(room, SHARE * tol))))
    # The ramps may take less than their share, so one level fewer than the estimate can do.
    nearby = [replace(one_level, levels=count) for count in (max(levels - 1, 1), levels, levels + 1)]
    return next((codebook for codebook in nearby if codebook.error <= tol), nearby[-1])


def _entries(codebook: Codebook, most: int) -> int | None:
    """The (table, cell, token) triples, or None when there are more than `most`."""
    if _cells_log10(codebook) > math.log10(most):
        return None
    tables = codebook.tables(most // codebook.prompt_length)
    return None if tables is None else len(tables) * codebook.prompt_length


def _cells_log10(codebook: Codebook) -> float:
    return codebook.size * math.log10(codebook.cells) + math.log10(codebook.tokens)


def _all_entries_log10(codebook: Codebook) -> float:
    """log10 of the (table, cell, token) triples with every table counted."""
    numbers = 10 ** min(_cells_log10(codebook) + math.log10(codebook.dim), 300)
    return numbers * math.log10(codebook.levels) + _cells_log10(codebook)


def _excess(differences: Int[Tensor, "*batch entries"]) -> Int[Tensor, "*batch"]:
    return (differences.abs() - 1).clamp(min=0).square().sum(dim=-1)
