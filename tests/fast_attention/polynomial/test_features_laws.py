"""Monomial features make the truncated exponential, in blocks as in the whole."""

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.attention_problems import normal
from helpers.tolerances import assert_close
from promptreach.fast_attention.polynomial.features import evaluate, features, moments, monomials, rank

SEEDS = st.integers(0, 2**31)


@given(st.integers(0, 6), st.integers(0, 6), SEEDS)
@settings(max_examples=40)
def test_features_make_the_truncated_exponential(variables, degree, seed):
    table = monomials(variables, degree)
    query, key = normal(seed, variables, 5), normal(seed + 1, variables, 7)
    assert table.rank == rank(variables, degree) == len(table.factorials)
    scores = query.mT @ key
    wanted = sum(scores**order / math.factorial(order) for order in range(degree + 1))
    built = features(table, query).mT @ (features(table, key) / table.factorials[:, None])
    assert_close(built, wanted.expand(5, 7), "polynomial kernel")
    in_place = features(table, query, torch.full((table.rank, 5), torch.nan, dtype=torch.float64))
    assert torch.equal(in_place, features(table, query))


def test_blocks_and_chunks_of_features_add_up():
    """Longer than one block, and more features than one product sums."""
    table = monomials(6, 5)
    assert table.rank > 300
    query, key, columns = normal(0, 6, 400) / 4, normal(1, 6, 1500) / 4, normal(2, 3, 1500)
    kernel = sum((query.mT @ key) ** order / math.factorial(order) for order in range(6))
    assert_close(evaluate(table, query, moments(table, key, columns)), columns @ kernel.mT, "polynomial kernel")
