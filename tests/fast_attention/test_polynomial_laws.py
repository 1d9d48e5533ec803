"""The pieces of the polynomial method, each against its definition: features, norms, remainder, free moves."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.tolerances import assert_close
from promptreach.fast_attention.measure import deviation_error, range_error
from promptreach.fast_attention.polynomial.features import evaluate, features, moments, monomials, rank
from promptreach.fast_attention.polynomial.preprocess import norms, prepare, prepare_values
from promptreach.fast_attention.polynomial.remainder import key_sums, tail_factor, theta
from promptreach.fast_attention.polynomial.tensors import form_norms, pair_index, spectral_above
from promptreach.fast_attention.problem import Head
from promptreach.rounding import gamma, unit

SEEDS = st.integers(0, 2**31)


def normal(seed: int, *shape: int, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


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


@given(st.integers(0, 20), st.floats(1e-3, 30))
@settings(max_examples=60)
def test_theta_bounds_the_scaled_remainder(degree, x):
    from decimal import Decimal, localcontext

    with localcontext() as context:
        context.prec = 250
        number = Decimal(x)
        for signed in (number, -number):
            taylor = sum(signed**order / math.factorial(order) for order in range(degree + 1))
            scaled = abs(signed.exp() - taylor) * math.factorial(degree + 1) / number ** (degree + 1)
            assert scaled <= Decimal(float(theta(torch.tensor([x], dtype=torch.float64), degree)))


@given(st.integers(0, 5), SEEDS)
@settings(max_examples=30)
def test_the_tail_factor_bounds_the_root_of_squared_remainders(degree, seed):
    for dtype in (torch.float64, torch.float32):
        query, key = normal(seed, 3, 10, dtype=dtype), normal(seed + 1, 3, 40, dtype=dtype)
        weight, value = normal(seed + 2, 40, dtype=dtype).abs(), normal(seed + 3, 2, 40, dtype=dtype)
        reach = float(norms(query).max())
        sums = key_sums(key, norms(key), weight, value, degree, reach, 16)
        scores = query.mT.double() @ key.double()
        rest = torch.exp(scores) - sum(scores**order / math.factorial(order) for order in range(degree + 1))
        exact = (rest.square() @ weight.double()).sqrt()
        assert (exact <= tail_factor(query, norms(query), sums, degree)).all()


@given(SEEDS)
@settings(max_examples=25)
def test_free_moves_change_no_output(seed):
    """Scores after the moves differ from those before by a constant a row, up to what is stated."""
    query, key = normal(seed, 2, 9, 5) + 2, normal(seed + 1, 30, 5) * torch.tensor([1e-3, 1, 1, 10, 0.0]) - 3
    for dtype in (torch.float64, torch.float32):
        head = Head(query.to(dtype), key.to(dtype), key.to(dtype), 0.4)
        for drop in (0.0, 0.05):
            prepared = prepare(head, drop, 2**20)
            before = 0.4 * head.rows.double() @ head.key.double().mT
            after = prepared.query.double().mT @ prepared.key.double() + prepared.weight.double().log()
            moved = torch.log_softmax(after, dim=1) - torch.log_softmax(before, dim=1)
            assert float(moved.abs().max()) <= 2 * (prepared.score_error + prepared.weight_error)
            assert prepared.score_error <= drop + (1e-7 if dtype == torch.float64 else 1e-3)


def test_free_moves_make_scores_smaller_and_drop_what_carries_nothing():
    query, key = normal(0, 1, 50, 6) + 4, normal(1, 80, 6) + 4
    key[:, 4], query[:, :, 5] = 1.0, 2.0
    prepared = prepare(Head(query, key, key, 1.0), 1e-5, 2**20)
    assert len(prepared.key) == 4
    raw = (query[0] @ key.mT).abs().max()
    assert float((prepared.query.mT @ prepared.key).abs().max()) < 0.3 * float(raw)
    # The same diagonal second moment, the keys' under their weights.
    share = prepared.weight / prepared.weight.sum()
    moments_of = prepared.query.square().mean(dim=1), prepared.key.square() @ share
    assert_close(*moments_of, "balanced moments")


def test_blocks_of_the_free_moves_agree_with_the_whole():
    head = Head(normal(0, 1, 3000, 4), normal(1, 3000, 4), normal(2, 3000, 4), 0.5)
    whole, parts = prepare(head, 0.0, 2**28), prepare(head, 0.0, 2**12)
    assert_close(parts.query.mT @ parts.key, whole.query.mT @ whole.key, "polynomial kernel")


def test_values_are_centred_and_scaled_by_powers_of_two():
    value = normal(0, 40, 3) * torch.tensor([1e-12, 1.0, 1e12]) + torch.tensor([0.0, 5.0, 0.0])
    value = torch.cat([value, torch.full((40, 1), 7.25, dtype=torch.float64)], dim=1)
    columns = prepare_values(Head(value[None], value, value, 1.0), torch.rand(40, dtype=torch.float64))
    assert ((columns.spread[:3] >= 1) & (columns.spread[:3] < 2)).all()
    assert columns.spread[3] == 0
    assert not columns.value[3].any()
    assert torch.equal(torch.frexp(columns.scale)[0], torch.full((4,), 0.5, dtype=torch.float64))
    assert_close(columns.value.mT * columns.scale + columns.centre, value, "attention output")


def test_error_units():
    exact = torch.tensor([[0.0, 5.0], [1.0, 5.0]])
    output = exact + torch.tensor([[0.0, 0.0], [0.5, 0.0]])
    assert range_error(output, exact, torch.tensor([2.0, 0.0])) == 0.25
    assert range_error(output, exact, torch.tensor([0.0, 0.0])) == 0.0
    assert deviation_error(output, exact) == pytest.approx(0.5 / 0.5**0.5)
    assert deviation_error(exact, exact) == 0.0


def test_roundings_are_counted_upwards():
    assert unit(torch.float32) == 2.0**-24
    assert unit(torch.float64) == 2.0**-53
    for count in (1, 100, 10_000):
        assert (1 + unit(torch.float32)) ** count - 1 <= gamma(count, torch.float32)
    assert gamma(2**24, torch.float32) == math.inf
