"""The free moves change no output and make scores small."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.attention_problems import normal
from helpers.tolerances import assert_close
from promptreach.fast_attention.polynomial.preprocess import prepare, prepare_values
from promptreach.fast_attention.problem import Head

SEEDS = st.integers(0, 2**31)


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
