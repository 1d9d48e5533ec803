"""Attacks on the search over masses: it closes its gap, and random masses get no lower."""

import pytest
import torch

from helpers.heads_cases import errors_at, setting
from helpers.oracle_problems import normal
from helpers.tolerances import TOLERANCES
from promptreach.limits.oracle.box_bound import mass_problem
from promptreach.limits.oracle.box_check import bounded, tiles
from promptreach.limits.oracle.branch_and_bound import branch_and_bound


@pytest.mark.parametrize(("heads", "kv_heads"), [(2, 2), (2, 1), (3, 3), pytest.param(4, 4, marks=pytest.mark.slow)])
def test_twenty_examples_are_settled_to_one_percent_and_survive_random_masses(heads, kv_heads):
    statistics, outputs, targets = setting(heads, 20, heads, kv_heads)
    lower, upper, place, boxes = branch_and_bound(mass_problem(statistics, outputs, targets))
    assert upper - lower <= TOLERANCES["several heads gap", torch.float64][0] * upper
    draws = torch.rand(100, heads, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    near = (place + 0.02 * normal(2)(100, heads)).clamp(0, 1)
    ends = torch.where(normal(3)(30, heads) > 0, 1e-9, 1 - 1e-9).double()
    assert errors_at(statistics, outputs, targets, torch.cat([draws, near, ends])).min() >= lower
    assert tiles(boxes)
    assert bounded(statistics, outputs, targets, boxes, lower, upper)
