"""Several heads: the branch and bound closes its gap, and nothing gets below what it certifies."""

import dataclasses
import json

import pytest
import torch

from limits.oracle_problems import normal, prompted, random_sequences, random_weights
from promptreach.certificate import Certificate, Verdict
from promptreach.limits import memorisable
from promptreach.limits.heads import branch_and_bound, errors_at
from promptreach.limits.statistics import head_statistics
from tolerances import TOLERANCES


def setting(heads, count, seed, kv_heads=None, out=4):
    weights = random_weights(8, 4, seed, heads, kv_heads, out=out, bias=False)
    sequences = random_sequences(8, count, seed)
    targets = prompted(weights, sequences, 2, seed) + 0.1 * normal(seed)(count, out)
    return weights, sequences, targets


@pytest.mark.parametrize(("heads", "kv_heads"), [(2, 2), (2, 1), (3, 3), pytest.param(4, 4, marks=pytest.mark.slow)])
def test_twenty_examples_are_settled_to_one_percent_and_survive_random_masses(heads, kv_heads):
    weights, sequences, targets = setting(heads, 20, heads, kv_heads)
    statistics = [head_statistics(weights, sequences, head) for head in range(heads)]
    outputs = weights.output.split(4, dim=1)
    lower, upper, place, boxes = branch_and_bound(statistics, outputs, targets)
    assert upper - lower <= TOLERANCES["several heads gap", torch.float64][0] * upper
    draws = torch.rand(200, heads, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    near = (place + 0.02 * normal(2)(200, heads)).clamp(0, 1)
    ends = torch.where(normal(3)(50, heads) > 0, 1e-9, 1 - 1e-9).double()
    assert float(errors_at(statistics, outputs, targets, torch.cat([draws, near, ends])).min()) >= lower
    assert abs(float((boxes[..., 1] - boxes[..., 0]).prod(dim=1).sum()) - 1) < 1e-9


@pytest.mark.parametrize("seed", range(4))
def test_every_box_bound_is_below_every_error_inside_it(seed):
    from promptreach.limits.heads import leaf_bounds

    weights, sequences, targets = setting(2, 6, seed, out=(4, 6)[seed % 2])
    statistics = [head_statistics(weights, sequences, head) for head in range(2)]
    outputs = weights.output.split(4, dim=1)
    corners = torch.rand(60, 2, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    corners[::2, :, 1] = corners[::2, :, 0] + 0.05 * corners[::2, :, 1]
    boxes = corners.clamp(1e-6, 1 - 1e-6).sort(dim=2)[0]
    bounds = leaf_bounds(statistics, outputs, targets, boxes, 1e3)
    inside = torch.rand(8, 60, 2, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64)
    for spots in inside:
        places = boxes[..., 0] + spots * (boxes[..., 1] - boxes[..., 0])
        assert bool((errors_at(statistics, outputs, targets, places) >= bounds).all())
    assert bool((bounds > 0).any())


@pytest.mark.parametrize(("heads", "out"), [(2, None), (2, 8), (2, 12), (6, 24)])
def test_heads_that_can_be_taken_apart_are(heads, out):
    weights = random_weights(12, 4, heads, heads, out=out)
    sequences = random_sequences(12, 6, heads)
    fitted = memorisable(weights, sequences, prompted(weights, sequences, 2, heads), tol=1e-8)
    assert fitted.verdict is Verdict.POSSIBLE
    noisy = memorisable(weights, sequences, normal(heads)(6, weights.output_size))
    assert noisy.verdict is Verdict.IMPOSSIBLE
    assert noisy.floor.value <= noisy.upper.value
    assert noisy.floor.recheck()
    assert noisy.upper.recheck()
    if out is None:
        assert noisy.upper.value <= noisy.floor.value * (1 + 1e-6)


def test_more_than_four_heads_that_cannot_be_taken_apart_stay_undecided_with_both_numbers():
    weights = random_weights(8, 4, 5, heads=6, out=3)
    result = memorisable(weights, random_sequences(8, 5, 5), normal(5)(5, 3))
    assert result.verdict in (Verdict.UNKNOWN, Verdict.POSSIBLE)
    assert 0.0 <= result.floor.value <= result.upper.value


def test_the_certificate_survives_a_file_and_refuses_tampering():
    weights, sequences, targets = setting(2, 8, 9)
    floor = memorisable(weights, sequences, targets).floor
    assert floor.value > 0
    assert Certificate.from_dict(json.loads(json.dumps(floor.to_dict()))).recheck()
    assert not dataclasses.replace(floor, value=floor.value * 1.02).recheck()
    group = floor.witness["groups"][0]
    holed = {**floor.witness, "groups": [{**group, "boxes": group["boxes"][1:]}]}
    assert not dataclasses.replace(floor, witness=holed).recheck()
