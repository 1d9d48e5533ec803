"""Attacks on the second path of boxes: bounds that hold and tilings that leave nothing out."""

import numpy as np
import torch

from helpers.heads_cases import boxes_at, hard_problem
from promptreach.limits.oracle.box_bound import box_bounds, mass_problem
from promptreach.limits.oracle.box_check import bounded, tiles


def test_the_second_path_confirms_every_bound_of_the_first():
    for seed in range(25):
        statistics, outputs, targets = hard_problem(seed)
        pick = np.random.default_rng(seed)
        places = torch.from_numpy(pick.random((8, len(statistics))))
        boxes = boxes_at(places, torch.from_numpy(10 ** (-8 * pick.random((8, 1)))), pick)
        upper = float(targets.norm())
        bounds, _ = box_bounds(mass_problem(statistics, outputs, targets), boxes, upper, np.inf)
        for box, bound in zip(boxes, bounds.tolist(), strict=True):
            assert bounded(statistics, outputs, targets, box[None], bound, upper)
            assert not bounded(statistics, outputs, targets, box[None], 1.001 * upper, upper)


def test_only_exact_tilings_are_accepted():
    cube = torch.tensor([[[0.0, 1.0]] * 3], dtype=torch.float64)
    boxes, pick = cube, np.random.default_rng(0)
    for _ in range(60):
        index, axis = pick.integers(len(boxes)), pick.integers(3)
        low, high = boxes[index, axis].tolist()
        halves = boxes[index].repeat(2, 1, 1)
        halves[0, axis, 1] = halves[1, axis, 0] = low + (high - low) * float(pick.choice([0.5, 0.3]))
        boxes = torch.cat([boxes[:index], boxes[index + 1 :], halves])
    assert tiles(cube)
    assert tiles(boxes)
    assert tiles(boxes[torch.randperm(len(boxes), generator=torch.Generator().manual_seed(0))])
    assert not tiles(boxes[:0])
    assert not tiles(boxes[1:])
    assert not tiles(torch.cat([boxes, boxes[:1]]))
    assert not tiles(torch.cat([boxes[1:], boxes[:1].flip(2)]))
    for index in range(len(boxes)):
        moved = boxes.clone()
        moved[index, 0, 0] = np.nextafter(float(moved[index, 0, 0]), 2.0)
        assert not tiles(moved)
    # Volume 1 and disjoint interiors are not enough: a box outside the cube for one inside.
    swapped = boxes.clone()
    swapped[0] += 1.0
    assert not tiles(swapped)
