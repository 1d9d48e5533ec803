"""What calls can refute about a function, each refusal with the point it happened at; and what they leave alone."""

import itertools
import math

import numpy as np
import pytest
import torch

from helpers.compiler_cases import small
from promptreach.compiler import TargetFunction
from promptreach.compiler.target import as_target
from promptreach.errors import InputError


def refusal(function, dim=1, tokens=2, lipschitz=1.0, **options):
    with pytest.raises(InputError) as error:
        small(dim, tokens, lipschitz=lipschitz).prompt_for(
            TargetFunction(function, dim, tokens, lipschitz, **options) if options else function
        )
    return str(error.value)


def test_a_wrong_shape_is_named():
    assert "returned shape (2,); expected (2, 1), the shape of its argument" in refusal(lambda x: x[:, 0])
    assert "returned shape (64, 2); expected (64, 2, 1)" in refusal(lambda x: x[:, :, 0], batched=True)
    assert "returned shape (); expected (2, 1)" in refusal(lambda x: 0.5)


def test_values_outside_the_range_are_counted_and_located():
    message = refusal(lambda x: 1.2 * x, lipschitz=2.0)
    assert "values outside [0, 1] at" in message
    assert "of 64 points, first 1." in message


def test_nan_is_named_beside_what_else_is_wrong():
    def function(x):
        return np.where(x > 0.9, np.nan, np.where(x < 0.1, -x, x))

    message = refusal(function)
    assert "NaN or infinite values at" in message
    assert "values outside [0, 1] at" in message


def test_a_fault_that_only_the_grid_meets_is_found():
    centre = small(1, 2).points()[3]
    message = refusal(lambda x: x * math.nan if np.allclose(x, centre.numpy()) else x)
    assert "NaN or infinite values at 1 of" in message
    assert str(centre.tolist()) in message


def test_a_function_that_changes_between_calls_is_refused():
    calls = itertools.count()
    assert "two calls at" in refusal(lambda x: 0.5 * x + 1e-9 * (next(calls) % 7))


@pytest.mark.parametrize("steep", [1.05, 3.0, 50.0])
def test_a_function_steeper_than_declared_is_refused_with_its_slope(steep):
    message = refusal(lambda x: 0.5 + np.clip(steep * (x - 0.5), -0.5, 0.5), dim=1, tokens=1)
    assert "slope" in message
    assert "declared Lipschitz constant 1" in message
    assert "Build the backbone for lipschitz=" in message


def test_a_jump_between_two_neighbours_of_the_grid_is_found_by_lookups():
    """Too narrow for 64 random points: a spike around one centre of a fine grid."""
    backbone = small(1, 1, 0.003)
    centre = float(backbone.points()[40])

    def spike(x):
        return 0.2 + 0.5 * np.maximum(0, 1 - 1000 * np.abs(x - centre))

    with pytest.raises(InputError, match="slope"):
        backbone.prompt_for(spike)


def test_functions_exactly_as_steep_as_declared_pass():
    """The 2-norm over all entries: swapping, averaging and reflecting are 1-Lipschitz and not less."""
    for function in (lambda x: x[::-1], lambda x: 1 - x, lambda x: np.sort(x, axis=0), lambda x: 0 * x + x.mean()):
        assert small(1, 2).prompt_for(function).certificate.recheck()


def test_an_exception_inside_the_function_is_reported_with_the_point():
    def function(x):
        raise RuntimeError("no such table")

    message = refusal(function)
    assert "raised RuntimeError: no such table, at [[" in message
    assert "raised RuntimeError" in refusal(function, batched=True)
    assert "returned a str" in refusal(lambda x: "text")


def test_a_function_that_writes_into_its_argument_harms_nobody():
    def function(x):
        x *= 0.5
        return x

    prompt = small(1, 2).prompt_for(function)
    again = small(1, 2).prompt_for(lambda x: 0.5 * x)
    assert torch.equal(prompt.embeddings, again.embeddings)


def test_declarations_can_be_tried_on_their_own():
    TargetFunction(lambda x: x, 2, 2, 1.0).check()
    with pytest.raises(InputError, match="slope"):
        TargetFunction(lambda x: x, 2, 2, 0.9).check()


def test_no_points_have_no_values():
    assert TargetFunction(lambda x: x, 2, 2, 1.0).at(torch.zeros(0, 2, 2).double()).shape == (0, 2, 2)


def test_plain_functions_of_one_input_in_numpy_or_torch():
    backbone = small(2, 2)
    by_numpy = backbone.prompt_for(lambda x: np.flip(x, axis=0) * 0.5)
    by_torch = backbone.prompt_for(lambda x: torch.flip(x, (0,)) * 0.5)
    assert torch.equal(by_numpy.embeddings, by_torch.embeddings)
    assert by_numpy.certificate.value == by_torch.certificate.value


def test_a_function_steeper_than_the_backbone_allows_is_refused():
    with pytest.raises(InputError, match=r"0 to 1, for which the backbone was built"):
        small(1, 1).prompt_for(TargetFunction(lambda x: x, 1, 1, 2.0))
    with pytest.raises(InputError, match="dim 1, tokens 2"):
        small(1, 1).prompt_for(TargetFunction(lambda x: x, 1, 2, 1.0))
    with pytest.raises(InputError, match="a function or a TargetFunction"):
        as_target(3, 1, 1, 1.0)
