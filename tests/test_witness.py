"""Readers of witnesses: what stands under a name is taken only where it is of the kind and within its bounds."""

import math

import pytest
import torch

from promptreach import witness


@pytest.mark.parametrize("found", [None, "3", 3.0, True, 0, 11, 10**30, math.nan, [3], torch.tensor(3)])
def test_only_whole_numbers_within_bounds_are_whole(found) -> None:
    assert witness.whole({"x": 10}, "x", 1, 10) == 10
    with pytest.raises(ValueError, match="'x'"):
        witness.whole({"x": found}, "x", 1, 10)


@pytest.mark.parametrize("found", [None, "3", True, -0.1, math.nan, math.inf, -math.inf, [3.0], torch.tensor(3.0)])
def test_only_finite_numbers_within_bounds_are_numbers(found) -> None:
    assert witness.number({"x": 3}, "x", 0) == 3
    assert witness.number({"x": 0.0}, "x", 0) == 0
    with pytest.raises(ValueError, match="'x'"):
        witness.number({"x": found}, "x", 0)


@pytest.mark.parametrize("found", [None, "c", 1, ["a"]])
def test_only_one_of_the_options_is_a_choice(found) -> None:
    assert witness.choice({"x": "a"}, "x", ("a", "b")) == "a"
    with pytest.raises(ValueError, match="'x'"):
        witness.choice({"x": found}, "x", ("a", "b"))


@pytest.mark.parametrize(
    "found",
    [
        None,
        [[1.0, 2.0]],
        torch.ones(2, 2),
        torch.ones(2, dtype=torch.float64),
        torch.ones(3, 2, dtype=torch.float64),
        torch.ones(2, 0, dtype=torch.float64),
        torch.tensor([[1.0, math.nan], [0.0, 0.0]], dtype=torch.float64),
        torch.tensor([[1.0, -math.inf], [0.0, 0.0]], dtype=torch.float64),
    ],
)
def test_only_finite_tensors_of_the_sizes_are_tensors(found) -> None:
    kept = torch.ones(2, 5, dtype=torch.float64)
    assert witness.tensor({"x": kept}, "x", 2, None) is kept
    with pytest.raises(ValueError, match="'x'"):
        witness.tensor({"x": found}, "x", 2, None)


@pytest.mark.parametrize("read", [witness.whole, witness.number, witness.tensor])
def test_nothing_under_a_name_is_told_apart_from_something_wrong(read) -> None:
    with pytest.raises(KeyError):
        read({}, "x")
