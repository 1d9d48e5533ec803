"""Laws of centring: the free move that brings real heads nearer to paper B's criterion."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.tolerances import assert_close
from promptreach.fast_attention.norm_criterion import centred, norm_criterion


@st.composite
def heads(draw):
    """Queries, keys, visibility and scale; means far from zero, padding anywhere."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    kv_heads, group, n = (draw(st.integers(1, high)) for high in (2, 2, 6))
    offset = draw(st.sampled_from([0.0, 1.0, 10.0]))
    query = torch.randn(2, kv_heads * group, n, 4, generator=generator, dtype=torch.float64) + offset
    key = torch.randn(2, kv_heads, n, 4, generator=generator, dtype=torch.float64) - offset
    mask = torch.rand(2, n, generator=generator) < 0.7
    mask[0, 0] = True  # the second sequence may be padding altogether
    return query, key, mask, draw(st.sampled_from([0.5, 1.0, -0.7]))


def scores_of(query, key, mask, scale):
    key = key.repeat_interleave(query.shape[1] // key.shape[1], dim=1)
    return (scale * query @ key.mT).masked_fill(~mask[:, None, None, :], -math.inf)


@settings(max_examples=80)
@given(heads())
def test_centring_with_key_weights_leaves_the_softmax_alone(problem):
    query, key, mask, scale = problem
    centred_query, centred_key = centred(query, mask), centred(key, mask)
    mean_query = (query - centred_query).masked_fill(~mask[:, None, :, None], 0.0)
    mean_query = mean_query.sum(2, keepdim=True) / mask.sum(1).clamp(min=1)[:, None, None, None]
    log_weights = scores_of(mean_query, centred_key, mask, scale)
    ours = torch.softmax(scores_of(centred_query, centred_key, mask, scale) + log_weights, dim=-1)
    seen = mask[:, None, :].expand(ours.shape[:-1])
    assert_close(ours[seen], torch.softmax(scores_of(query, key, mask, scale), dim=-1)[seen], "centred weights")


@settings(max_examples=80)
@given(heads())
def test_centred_states_have_mean_zero_and_stay_centred(problem):
    query, _, mask, _ = problem
    once = centred(query, mask)
    assert_close(once.sum(2), torch.zeros_like(once.sum(2)), "centred weights")
    assert_close(centred(once, mask), once, "centred weights")
    assert (once.masked_select(~mask[:, None, :, None]) == 0).all()


@settings(max_examples=80)
@given(heads())
def test_the_centred_score_is_at_most_four_times_the_raw_one(problem):
    # It is the raw score minus its row mean, minus its column mean, plus the overall mean.
    query, key, mask, scale = problem
    norms = norm_criterion(query, key, mask=mask, scale=scale).joined
    assert (norms.centred_score_max <= 4 * norms.score_max).all()
    assert (norms.centred_key_max <= 2 * norms.key_max).all()


def test_centring_can_raise_the_largest_score():
    # Why no law says it falls: the odd one out moves away from a mean that the others set.
    states = torch.tensor([1.0] * 9 + [-1.0], dtype=torch.float64)[None, None, :, None]
    norms = norm_criterion(states, states).joined
    assert norms.centred_score_max.item() == pytest.approx(1.8**2)
    assert norms.score_max.item() == 1.0


@settings(max_examples=50)
@given(heads(), st.integers(0, 2**32))
def test_a_prompt_never_lowers_a_raw_maximum(problem, seed):
    query, key, mask, scale = problem
    generator = torch.Generator().manual_seed(seed)
    prompt_query, prompt_key = (torch.randn(2, s.shape[1], 2, 4, generator=generator).double() for s in (query, key))
    result = norm_criterion(
        torch.cat([prompt_query, query], 2),
        torch.cat([prompt_key, key], 2),
        2,
        torch.cat([mask.new_ones(2, 2), mask], 1),
        scale,
    )
    assert (result.joined.query_max >= result.content.query_max).all()
    assert (result.joined.key_max >= result.content.key_max).all()
    alone = norm_criterion(query, key, mask=mask, scale=scale).joined
    assert_close(result.content.score_max, alone.score_max, "centred weights")
    assert_close(result.content.centred_score_max, alone.centred_score_max, "centred weights")
    assert result.joined.length == alone.length + 2


@settings(max_examples=50)
@given(heads())
def test_what_padding_holds_changes_nothing(problem):
    query, key, mask, scale = problem
    hidden = ~mask[:, None, :, None]
    plain = norm_criterion(query, key, mask=mask, scale=scale).joined
    spoilt = norm_criterion(
        query.masked_fill(hidden, 1e6), key.masked_fill(hidden, math.nan), mask=mask, scale=scale
    ).joined
    for name in ("query_max", "key_max", "score_max", "centred_query_max", "centred_key_max", "centred_score_max"):
        assert torch.equal(getattr(plain, name), getattr(spoilt, name))
