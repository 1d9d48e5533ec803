"""Searching for the worst input: never above the sup certificate, and close enough below it to mean something."""

import pytest
import torch

from helpers.compiler_attack import attack
from helpers.compiler_cases import SIZES, small
from promptreach.compiler.gallery import gallery_function, random_function
from promptreach.compiler.verify import measure
from promptreach.prompt import SoftPrompt


def assert_never_above(found: float, bound: float) -> None:
    assert found <= bound


@pytest.mark.parametrize(("dim", "tokens"), SIZES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_no_input_outside_the_ramps_is_worse_than_certified(dim, tokens, dtype):
    backbone = small(dim, tokens, 0.1, dtype=dtype)
    for seed in range(3):
        target = random_function(dim, tokens, 1.0, seed)
        prompt = backbone.prompt_for(target)
        found, where = attack(backbone, prompt, target, starts=50, rounds=20, seed=seed)
        assert bool(backbone.good(where[None]).all())
        assert_never_above(found, backbone.sup_certificate(prompt).value)


@pytest.mark.parametrize(("dim", "tokens"), [(1, 1), (1, 2), (2, 1)])
def test_the_attack_comes_close_and_breaks_a_bound_that_is_too_low(dim, tokens):
    backbone, target = small(dim, tokens, 0.1), gallery_function("ridge", dim, tokens, 1.0)
    prompt = backbone.prompt_for(target)
    found, _ = attack(backbone, prompt, target, starts=100, rounds=40)
    bound = backbone.sup_certificate(prompt).value
    assert found >= 0.95 * bound
    with pytest.raises(AssertionError):
        assert_never_above(found, 0.9 * bound)


def test_a_function_that_lied_about_its_steepness_is_caught_by_measuring():
    """Declared flat: the certificate is then too small, and only measuring can tell."""
    backbone, honest = small(1, 2, 0.1), gallery_function("ridge", 1, 2, 1.0)
    values = honest.at(backbone.points())
    embeddings = backbone.rows(values)
    lying = SoftPrompt(embeddings, backbone.certify(embeddings, 0.1))
    assert not measure(backbone, lying, honest, 2000).holds


def test_points_inside_ramps_are_told_from_those_at_their_ends():
    backbone = small(1, 1, 0.1)
    edges = backbone.edges()
    assert len(edges) == 2 * backbone.plan.cells
    assert bool(backbone.good(edges[:, None, None]).all())
    starts = edges[1:-1:2]
    middle = starts + backbone.plan.ramp / 2
    assert not bool(backbone.good(middle[:, None, None]).any())
    inner = torch.nextafter(starts, torch.ones(()).double())
    assert not bool(backbone.good(inner[:, None, None]).any())
    outer = torch.nextafter(starts, torch.zeros(()).double())
    assert bool(backbone.good(outer[:, None, None]).all())
