"""Codebooks and the step functions that read them: what they promise, tried on random functions and random ids."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from promptreach.compiler.gallery import random_function
from promptreach.compiler.papers.codebook import BEYOND, Codebook, choose, power_up_to_beyond
from promptreach.compiler.plan import Question

RAMP = 2.0**-30


@pytest.mark.parametrize(("dim", "tokens", "cells", "levels"), [(1, 1, 4, 8), (1, 1, 1, 3), (1, 2, 2, 3), (2, 1, 3, 5)])
def test_every_function_is_within_the_error_of_its_codeword(dim, tokens, cells, levels):
    codebook = Codebook(dim, tokens, 1.0, cells, levels, RAMP)
    x = torch.rand(20_000, tokens, dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    places = cells ** torch.arange(codebook.size - 1, -1, -1)
    cell = ((x.flatten(1) * cells).floor().long() * places).sum(dim=1)
    for seed in range(10):
        target = random_function(dim, tokens, 1.0, seed)
        table = codebook.encode(target.at(codebook.points()))
        assert codebook.faults(table, "f") == []
        errors = (codebook.decode(table)[cell] - target.at(x).flatten(1)).norm(dim=1)
        assert float(errors.square().mean().sqrt()) <= codebook.error
        assert float(errors.max()) <= codebook.sup_error


def admissible(codebook, table):
    """The rule of the module, in plain loops."""
    corners = list(itertools.product(range(codebook.cells), repeat=codebook.size))
    for (a, left), (b, right) in itertools.combinations(zip(corners, table, strict=True), 2):
        distance = sum((i - j) ** 2 for i, j in zip(a, b, strict=True)) ** 0.5 / codebook.cells
        excess = sum(max(0, abs(i - j) - 1) ** 2 for i, j in zip(left, right, strict=True))
        if excess > (codebook.levels * codebook.lipschitz * distance) ** 2 * (1 + 2.0**-20):
            return False
    return True


@pytest.mark.parametrize(
    ("dim", "tokens", "cells", "levels", "lipschitz"),
    [(1, 1, 3, 5, 1.0), (1, 1, 4, 4, 0.3), (1, 1, 3, 2, 0.0), (1, 2, 2, 2, 0.4), (2, 1, 1, 3, 1.0), (1, 1, 5, 1, 1.0)],
)
def test_the_tables_listed_are_the_admissible_ones(dim, tokens, cells, levels, lipschitz):
    codebook = Codebook(dim, tokens, lipschitz, cells, levels, RAMP)
    rows = list(itertools.product(range(levels), repeat=codebook.size))
    expected = [
        list(map(list, t)) for t in itertools.product(rows, repeat=codebook.num_cells) if admissible(codebook, t)
    ]
    assert codebook.tables(10**6).tolist() == expected
    assert codebook.tables(len(expected) - 1) is None
    everything = itertools.product(rows, repeat=codebook.num_cells)
    for table in itertools.islice(everything, 0, None, 7):
        assert (codebook.faults(torch.tensor(table), "f") == []) == admissible(codebook, table)


@settings(max_examples=25)
@given(st.sampled_from([(1, 1), (1, 2), (2, 1)]), st.floats(0.05, 1.2), st.floats(0.1, 3))
def test_a_chosen_codebook_reaches_tol_and_has_the_entries_it_says(shape, tol, lipschitz):
    choice = choose(Question("deep", *shape, lipschitz, tol, "float64"), most=5000)
    if choice.fits:
        assert choice.codebook.error <= tol
        tables = choice.codebook.tables(5000)
        assert len(tables) * choice.codebook.prompt_length == choice.entries <= 5000
    else:
        assert choice.entries > 5000


def test_numbers_beyond_use_are_written_as_one():
    assert power_up_to_beyond(10, 3999) == 10**3999
    assert power_up_to_beyond(10, 10**9) == power_up_to_beyond(7, 5000) == BEYOND
    assert Codebook(768, 512, 1.0, 1000, 2, RAMP).num_cells == BEYOND
