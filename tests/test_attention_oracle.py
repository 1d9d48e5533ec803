"""Cases of the split whose answer is known in closed form, also where floats come under strain."""

import math

import pytest
import torch

from helpers.tolerances import assert_close
from promptreach.attention import split, statistics


def one_key_each(content_score: float, prompt_score: float, dtype: torch.dtype = torch.float64):
    """One query, one content key and one prompt slot with the given scores; values 1 and -1."""
    one = torch.ones(1, 1, dtype=dtype)
    return split(one, content_score * one, one, prompt_score * one, -one, scale=1.0)


@pytest.mark.parametrize("gap", [0.0, 1.0, -3.0, 40.0, -40.0, 300.0, -300.0, 700.0, -700.0])
@pytest.mark.parametrize("level", [0.0, 1e4, -1e4])
def test_share_of_one_key_each_is_the_logistic_function(gap, level):
    result = one_key_each(level, level + gap)
    share, content_share = 1 / (1 + math.exp(-gap)), 1 / (1 + math.exp(gap))
    assert_close(result.share, torch.tensor([share], dtype=torch.float64), "attention share")
    assert_close(torch.sigmoid(-result.log_odds), torch.tensor([content_share], dtype=torch.float64), "attention share")
    assert result.log_odds.item() == gap
    assert_close(result.output, torch.tensor([[content_share - share]], dtype=torch.float64), "attention output")


def test_a_shift_shared_by_all_scores_costs_float32_nothing():
    # At 1e4 neighbouring float32 numbers are 1e-3 apart: a log mass rounded there would ruin the share.
    result = one_key_each(10_000.0, 10_000.0, torch.float32)
    four_slots = split(
        torch.ones(1, 1),
        torch.full((1, 1), 1e4),
        torch.ones(1, 1),
        torch.full((4, 1), 1e4),
        torch.ones(4, 1),
        scale=1.0,
    )
    assert result.share.item() == 0.5
    assert_close(four_slots.share, torch.tensor([0.8]), "attention share")


def test_a_content_share_too_small_for_one_minus_share_still_counts():
    one = torch.ones(1, 1, dtype=torch.float64)
    result = split(one, 0 * one, 1e20 * one, 46 * one, 0 * one, scale=1.0)
    assert result.share.item() == 1.0
    assert result.output.item() == pytest.approx(1e20 / (1 + math.exp(46)), rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_low_precision_is_float32_on_the_given_numbers(dtype):
    generator = torch.Generator().manual_seed(1)
    tensors = [torch.randn(2, 6, 8, generator=generator).to(dtype) for _ in range(5)]
    result, truth = split(*tensors), split(*(tensor.double() for tensor in tensors))
    assert result.output.dtype == torch.float32
    for quantity, one, other in (
        ("attention share", result.share, truth.share),
        ("attention output", result.content, truth.content),
        ("attention output", result.prompt, truth.prompt),
        ("attention output", result.output, truth.output),
    ):
        row = torch.float32 if quantity == "attention share" else dtype
        assert_close(one, other, quantity, row)


def test_content_that_is_fully_masked_leaves_everything_to_the_prompt():
    tensors = [torch.randn(3, 4, generator=torch.Generator().manual_seed(i), dtype=torch.float64) for i in range(5)]
    result = split(*tensors, mask=torch.zeros(3, 3, dtype=torch.bool))
    assert (result.share == 1).all()
    assert (result.content == 0).all()
    assert torch.equal(result.output, result.prompt)
    assert (result.log_odds == math.inf).all()


def test_a_prompt_without_slots_has_no_share():
    tensors = [torch.randn(3, 4, generator=torch.Generator().manual_seed(i), dtype=torch.float64) for i in range(3)]
    share, content, prompt = split(*tensors, torch.zeros(0, 4).double(), torch.zeros(0, 4).double())
    assert (share == 0).all()
    assert (prompt == 0).all()
    assert torch.equal(content, split(*tensors, torch.zeros(0, 4).double(), torch.zeros(0, 4).double()).output)


def test_a_query_that_sees_nothing_answers_zero():
    none = torch.zeros(0, 4, dtype=torch.float64)
    result = split(torch.ones(2, 4, dtype=torch.float64), none, none, none, none)
    assert (result.output == 0).all()
    assert (result.share == 0).all()


def test_head_h_reads_key_value_head_h_times_kv_heads_over_heads():
    query = torch.zeros(6, 1, 2, dtype=torch.float64)
    values = torch.arange(3, dtype=torch.float64).reshape(3, 1, 1)
    none = torch.zeros(1, 0, 2, dtype=torch.float64), torch.zeros(1, 0, 1, dtype=torch.float64)
    result = split(query, torch.zeros(3, 1, 2, dtype=torch.float64), values, *none)
    assert result.output.flatten().tolist() == [h * 3 // 6 for h in range(6)]


def test_equal_scores_weigh_every_key_alike():
    # Zero query: every key has score 0, so the share is the share of slots.
    zeros = torch.zeros(7, 4, dtype=torch.float64)
    result = split(zeros[:1], zeros, zeros, zeros[:3], zeros[:3])
    assert result.share.item() == pytest.approx(0.3, rel=1e-15)
    assert statistics(zeros[:1], zeros, zeros).lse.item() == pytest.approx(math.log(7), rel=1e-15)


def test_default_scale_is_one_over_root_head_dim():
    query, keys = torch.full((1, 16), 0.5, dtype=torch.float64), torch.ones(1, 16, dtype=torch.float64)
    assert statistics(query, keys, keys).lse.item() == 2.0
    assert statistics(query, keys, keys, scale=1.0).lse.item() == 8.0
