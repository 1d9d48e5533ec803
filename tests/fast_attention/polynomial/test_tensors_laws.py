"""Norms of symmetric tensors bound every direction."""

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.attention_problems import normal
from helpers.tolerances import assert_close
from promptreach.fast_attention.polynomial.features import features, moments, monomials
from promptreach.fast_attention.polynomial.tensors import form_norms, pair_index, spectral_above

SEEDS = st.integers(0, 2**31)


@given(st.integers(1, 5), st.integers(1, 5), SEEDS)
@settings(max_examples=40)
def test_form_norms_bound_every_direction_and_nearly_reach_one(variables, degree, seed):
    """Moments of whole numbers carry no rounding, so that nothing but the norm is judged."""
    table = monomials(variables, degree)
    key, columns = normal(seed, variables, 30).mul(2).round(), normal(seed + 1, 2, 30).mul(2).round()
    bound = form_norms(table, moments(table, key, columns), degree)
    directions = torch.cat([normal(seed + 2, variables, 3000), key], dim=1)
    directions = torch.nn.functional.normalize(directions, dim=0)
    reached = (columns @ (key.mT @ directions) ** degree).abs().amax(dim=1)
    assert (reached <= bound).all()
    assert (bound <= (4 * reached).clamp_min(1e-200)).all()  # moments may cancel to nothing at all


def test_form_norms_hold_for_every_split(monkeypatch):
    table = monomials(4, 6)
    state = moments(table, normal(0, 4, 30), normal(1, 2, 30))
    even = form_norms(table, state, 6)
    monkeypatch.setattr("promptreach.fast_attention.polynomial.tensors.MOST_ROWS", 0)
    frobenius = form_norms(table, state, 6)
    assert (even <= frobenius).all()
    part = state[:, table.offsets[6] :]
    weights = math.factorial(6) / table.factorials[table.offsets[6] :]
    assert_close(frobenius, (part.square() * weights).sum(dim=1).sqrt(), "tensor norm")


@given(st.integers(1, 12), st.integers(1, 12), SEEDS)
@settings(max_examples=40)
def test_spectral_norms_are_bounded(rows, columns, seed):
    matrix = normal(seed, 3, rows, columns) * torch.tensor([1e-9, 1.0, 1e9], dtype=torch.float64)[:, None, None]
    norm = torch.linalg.matrix_norm(matrix, 2)
    assert (spectral_above(matrix) >= norm).all()
    assert (spectral_above(matrix) <= 1.1 * norm).all()
    assert (spectral_above(torch.zeros(1, rows, columns, dtype=torch.float64)) < 1e-100).all()


def test_places_of_products():
    """x_i x_j x_k is found at one place whichever way it is split."""
    index = pair_index(3, 1, 2)
    table = monomials(3, 3)
    x = normal(0, 3, 1)
    built = features(table, x)[table.offsets[3] :, 0]
    lows, highs = x[:, 0], features(table, x)[table.offsets[2] : table.offsets[3], 0]
    assert_close(built[index], lows[:, None] * highs, "polynomial kernel")
