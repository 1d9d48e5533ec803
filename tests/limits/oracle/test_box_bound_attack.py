"""Attacks on the bounds of boxes: no error inside lies below, however hard the numbers."""

import dataclasses

import numpy as np
import torch

from helpers.heads_cases import (
    bounds_and_errors,
    errors_at,
    hard_problem,
    setting,
    shifts_within,
    violations,
    wide,
)
from helpers.tolerances import TOLERANCES
from promptreach.limits.oracle.box_bound import box_bounds, mass_problem


def test_no_bound_of_any_box_is_above_any_error_inside_it_however_hard_the_numbers():
    pairs = [pair for seed in range(80) for pair in bounds_and_errors(seed)]
    assert violations(pairs) == 0
    assert sum(int((bounds > 0).sum()) for bounds, _ in pairs) > len(pairs)


def test_the_bound_of_a_point_is_the_error_there_and_a_little_more_is_seen_as_a_violation():
    statistics, outputs, targets = setting(3, 12, 5)
    places = 0.1 + 0.8 * torch.rand(40, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    errors = errors_at(statistics, outputs, targets, places)
    points = torch.stack([places, places], dim=2)
    bounds = wide(box_bounds(mass_problem(statistics, outputs, targets), points, 2 * float(errors.max()), np.inf)[0])
    slack = TOLERANCES["several heads point", torch.float64][0]
    assert (bounds >= errors * (1 - slack)).all()
    assert violations([(bounds, errors)]) == 0
    assert violations([(bounds * (1 + 2 * slack), errors)]) == len(places)


def test_a_mass_error_left_out_is_seen():
    seen = 0
    for seed in range(60):
        statistics, outputs, targets = hard_problem(seed)
        if float(statistics[0].lse_error[0]) < 1e-6:
            continue
        pick = np.random.default_rng(seed)
        places = torch.from_numpy(0.1 + 0.8 * pick.random((4, len(statistics))))
        errors = errors_at(statistics, outputs, targets, places, shifts_within(statistics, pick))
        problem = mass_problem(statistics, outputs, targets)._replace(mass_error=0.0, fixed_error=0.0)
        points = torch.stack([places, places], dim=2)
        seen += violations([(wide(box_bounds(problem, points, 2 * float(errors.max()), np.inf)[0]), errors)])
    assert seen > 0


def test_masses_too_far_apart_are_refused():
    statistics, outputs, targets = setting(2, 6, 1)
    far = dataclasses.replace(statistics[0], lse=statistics[0].lse * 0 + 60.0 * torch.arange(6.0).double())
    assert mass_problem([far, statistics[1]], outputs, targets) is None
    assert mass_problem(statistics, [0 * output for output in outputs], 0 * targets) is None
