"""Hill climbs against the certified Lipschitz bounds: no Jacobian in the ball is steeper, without any slack."""

import dataclasses

import pytest
import torch

from helpers.lipschitz_cases import random_case, steepest
from promptreach import blocks
from promptreach.limits.layers.lipschitz import lipschitz
from promptreach.weights import AttentionWeights, LayerWeights

CASES = 80


def assert_never_steeper(found: float, bound: float) -> None:
    assert found <= bound


@pytest.mark.parametrize("seed", range(CASES))
def test_no_point_of_the_ball_is_steeper_than_certified(seed):
    case = random_case(seed)
    (bound,) = lipschitz([case.layer], case.radius, case.tokens, rotate=case.rotate, iterations=4)
    attention = blocks.attention_branch(case.layer, case.rotate)
    hidden = case.layer.attention.hidden_size
    assert_never_steeper(steepest(attention, case.radius, case.tokens, hidden, seed, steps=8), bound.attention.value)
    mlp = blocks.feed_forward_branch(case.layer)
    assert_never_steeper(steepest(mlp, bound.mlp_radius, 1, hidden, seed, steps=8), bound.mlp.value)
    assert bound.attention_lower.value <= bound.attention.value
    assert bound.mlp_lower.value <= bound.mlp.value


@pytest.mark.parametrize("seed", range(12))
def test_the_whole_layer_stays_below_its_bound_and_inside_its_ball(seed):
    case = random_case(1000 + seed)
    (bound,) = lipschitz([case.layer], case.radius, case.tokens, rotate=case.rotate, iterations=1)
    hidden, layer = case.layer.attention.hidden_size, case.layer

    def whole(states):
        after = blocks.between(layer, states, case.rotate)
        out = after + blocks.feed_forward_branch(layer)(after)
        return blocks.normed(layer.feed_forward_norm, out) if layer.norm_position == "post" else out

    assert_never_steeper(steepest(whole, case.radius, case.tokens, hidden, seed, steps=5), bound.total.value)
    g = torch.Generator().manual_seed(seed)
    points = torch.randn(30, case.tokens, hidden, generator=g, dtype=torch.float64)
    points = case.radius * torch.nn.functional.normalize(points, dim=-1)
    for point in points:
        assert float(blocks.between(layer, point, case.rotate).norm(dim=1).max()) <= bound.mlp_radius
        assert float(whole(point).norm(dim=1).max()) <= bound.output_radius


@pytest.mark.parametrize("seed", range(20))
def test_the_bound_at_given_states_holds_there(seed):
    case = random_case(2000 + seed)
    g = torch.Generator().manual_seed(seed)
    state = torch.randn(case.tokens, case.layer.attention.hidden_size, generator=g, dtype=torch.float64)
    state = 0.9 * case.radius * torch.nn.functional.normalize(state, dim=1)
    (bound,) = lipschitz([case.layer], case.radius, case.tokens, states=[state], rotate=case.rotate)
    jacobian = torch.func.jacrev(blocks.attention_branch(case.layer, case.rotate))(state)
    norm = float(torch.linalg.matrix_norm(jacobian.flatten(2, 3).flatten(0, 1), ord=2))
    assert_never_steeper(norm, bound.attention_local.value)
    assert bound.attention_lower.value <= norm * (1 + 1e-12)
    assert bound.attention_local.value <= bound.attention.value
    assert bound.mlp_lower.value <= bound.mlp_local.value <= bound.mlp.value


def test_the_climb_finds_a_bound_that_is_too_low():
    """The attack has teeth: a few percent below the truth and it breaks through."""
    case = random_case(3)
    plain = dataclasses.replace(case.layer.attention, query=0 * case.layer.attention.query, causal=False)
    layer = dataclasses.replace(case.layer, attention=plain, attention_norm=None, feed_forward_norm=None)
    layer = dataclasses.replace(layer, norm_position="none")
    (bound,) = lipschitz([layer], 1.0, 1)
    found = steepest(blocks.attention_branch(layer), 1.0, 1, layer.attention.hidden_size, 0, steps=3)
    with pytest.raises(AssertionError):
        assert_never_steeper(found, 0.5 * bound.attention.value)


def test_paper_a_formula_fails_under_a_causal_mask():
    """With no scores at all, row i averages its first i tokens: steeper than |W_v|, which paper A's formula gives."""
    eye = torch.eye(2, dtype=torch.float64)[None]
    layer = LayerWeights(AttentionWeights(0 * eye, eye, eye, causal=True))
    (bound,) = lipschitz([layer], 1.0, 6)
    found = steepest(blocks.attention_branch(layer), 1.0, 6, 2, 0, steps=2)
    assert found > 1.2
    assert "Wang et al. 2023" not in bound.published
    assert_never_steeper(found, bound.attention.value)
