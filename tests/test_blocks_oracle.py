"""The differentiable branches against the plain loops, and the points at which their Jacobians are taken."""

import dataclasses

import pytest
import torch

from helpers.lipschitz_cases import normal, random_case
from helpers.tolerances import assert_close
from promptreach import blocks, reference


@pytest.mark.parametrize("seed", range(12))
def test_the_differentiable_branches_are_the_reference(seed):
    case = random_case(seed)
    layer = dataclasses.replace(case.layer, attention=dataclasses.replace(case.layer.attention, rotary=False))
    g = torch.Generator().manual_seed(seed)
    states = normal(g, 3, layer.attention.hidden_size)
    after = blocks.between(layer, states, None)
    out = after + blocks.feed_forward_branch(layer)(after)
    out = blocks.normed(layer.feed_forward_norm, out) if layer.norm_position == "post" else out
    assert_close(out, reference.layer(layer, states), "layer output")


def test_power_iteration_finds_the_norm_of_a_linear_map():
    g = torch.Generator().manual_seed(0)
    matrix, point = normal(g, 5, 5), normal(g, 3, 5)
    found = blocks.jacobian_norm(lambda states: states @ matrix.mT, point, 200, g)
    largest = float(torch.linalg.matrix_norm(matrix, 2))
    assert 0.999 * largest <= found <= largest * (1 + 1e-12)


def test_places_to_look_are_in_the_ball_and_drawn_from_the_generator():
    first, again, other = (blocks.points_in_ball(4, 6, 2.0, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    for one, same, different in zip(first, again, other, strict=True):
        assert torch.equal(one, same)
        assert not torch.equal(one, different)
        assert float(one.norm(dim=1).max()) <= 2.0
