"""Attacks on the floor of several heads: nothing gets below what it certifies."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from helpers.heads_cases import (
    errors_at,
    hard_problem,
    shifts_within,
)
from helpers.oracle_problems import normal, prompted, random_sequences, random_weights
from helpers.tolerances import TOLERANCES
from promptreach.certificate import Certificate, Evidence, Verdict
from promptreach.limits import memorisable
from promptreach.limits.oracle.box_bound import mass_problem, reference
from promptreach.limits.oracle.box_check import bounded, tiles
from promptreach.limits.oracle.branch_and_bound import branch_and_bound
from promptreach.limits.oracle.several import heads_floor


@pytest.mark.parametrize("seed", range(11, 29, 2))
def test_hard_problems_are_certified_or_refused_and_what_is_certified_holds(seed):
    statistics, outputs, targets = hard_problem(seed)
    problem = mass_problem(statistics, outputs, targets)
    lower, upper, place, boxes = branch_and_bound(problem, budget=30)
    assert tiles(boxes)
    assert bounded(statistics, outputs, targets, boxes, lower, upper)
    assert errors_at(statistics, outputs, targets, place[None])[0] >= lower
    group = heads_floor(statistics, torch.cat(outputs, dim=1), targets)
    best = group.best
    found = torch.sigmoid(best.lse - torch.tensor([reference(item) for item in statistics], dtype=torch.float64))
    shifts = shifts_within(statistics, np.random.default_rng(seed))
    assert errors_at(statistics, outputs, targets, torch.stack([place, found]), shifts).min() >= group.lower


def test_an_output_of_zeros_is_bounded_by_the_targets():
    weights = dataclasses.replace(random_weights(8, 4, 3, 2, out=4, bias=False), output=torch.zeros(4, 8).double())
    targets = normal(3)(5, 4)
    floor = memorisable(weights, random_sequences(8, 5, 3), targets).floor
    size = float(targets.square().mean().sqrt())
    assert size * (1 - TOLERANCES["several heads gap", torch.float64][0]) <= floor.value <= size
    assert floor.recheck()


def test_more_than_four_heads_that_cannot_betaken_apart_stay_undecided_with_both_numbers():
    weights = random_weights(8, 4, 5, heads=6, out=3)
    result = memorisable(weights, random_sequences(8, 5, 5), normal(5)(5, 3))
    assert result.verdict in (Verdict.UNKNOWN, Verdict.POSSIBLE)
    assert 0.0 <= result.floor.value <= result.upper.value


def test_the_certificate_is_proved_survives_a_file_and_refuses_tampering():
    weights = random_weights(8, 4, 9, 2, out=4, bias=False)
    sequences = random_sequences(8, 8, 9)
    targets = prompted(weights, sequences, 2, 9) + 0.1 * normal(9)(8, 4)
    floor = memorisable(weights, sequences, targets).floor
    assert floor.value > 0
    assert floor.evidence is Evidence.PROVED
    assert Certificate.from_dict(json.loads(json.dumps(floor.to_dict()))).recheck()
    assert not dataclasses.replace(floor, value=floor.value * 1.02).recheck()
    group = floor.witness["groups"][0]
    boxes, lower = group["boxes"], group["lower"]
    for tampered in ({"boxes": boxes[1:]}, {"lower": 1.02 * lower}, {"lower": -1e3 * lower}, {"upper": 0.5 * lower}):
        witness = {**floor.witness, "groups": [{**group, **tampered}]}
        assert not dataclasses.replace(floor, value=floor.value * 1.02, witness=witness).recheck()
    shifted = {**floor.witness, "targets": 0.9 * floor.witness["targets"]}
    assert not dataclasses.replace(floor, witness=shifted).recheck()
