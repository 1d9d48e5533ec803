"""The grid on [0, 1]: the order of its points, its ramps, and how far inputs are from the centre of their cell."""

import itertools
from fractions import Fraction

import torch

from promptreach.compiler import TargetFunction
from promptreach.compiler.parts.grid import cell_centres, cell_radius, grid_points, grid_refutations, ramp_edges
from promptreach.compiler.parts.relu import thresholds

RAMP = 2.0**-10


def test_points_are_in_lexicographic_order():
    axis = cell_centres(3)
    assert axis.tolist() == [1 / 6, 0.5, 5 / 6]
    points = grid_points(axis, tokens=2, dim=1)
    assert points.flatten(1).tolist() == [list(pair) for pair in itertools.product(axis.tolist(), repeat=2)]
    assert grid_points(axis, tokens=1, dim=1).shape == (3, 1, 1)


def test_edges_rise_from_0_to_1_with_two_for_each_ramp():
    starts = thresholds(5, RAMP, torch.float64)
    edges = ramp_edges(starts, RAMP).tolist()
    assert edges == sorted(edges)
    assert (edges[0], edges[-1], len(edges)) == (0.0, 1.0, 2 + 2 * 4)
    assert [right - left for left, right in zip(edges[1:-1:2], edges[2:-1:2], strict=True)] == [RAMP] * 4


def test_no_input_outside_the_ramps_is_farther_from_its_centre_than_the_radius():
    starts, centres = thresholds(5, RAMP, torch.float64), cell_centres(5)
    radius = cell_radius(starts, RAMP, centres, Fraction(1, 2**53))
    edges = ramp_edges(starts, RAMP)
    for cell in range(5):
        for x in (edges[2 * cell], edges[2 * cell + 1]):
            assert abs(float(x - centres[cell])) <= radius
    # The cells at the two ends lose half a ramp only.
    assert float(radius) <= 1 / 10 + 1e-15


def test_the_steepest_neighbours_along_any_axis_are_named():
    axis = cell_centres(4)
    points = grid_points(axis, tokens=2, dim=1)
    flat = TargetFunction(lambda x: 0 * x, 1, 2, 0.5)
    assert grid_refutations(flat, points, 0 * points, 4) == []
    assert grid_refutations(flat, points, 0.5 * points, 4) == []
    values = torch.where(points[:, 1:] > 0.5, 0.4, 0.0).expand_as(points)
    (fault,) = grid_refutations(flat, points, values, 4)
    assert "slope 2.263" in str(fault)
