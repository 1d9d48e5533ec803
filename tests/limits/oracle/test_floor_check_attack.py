"""Floors where proofs have broken: queries behind norms, masses far apart, tiny and huge numbers, gaps in intervals."""

import dataclasses

import numpy as np
import pytest
import torch

from helpers.oracle_problems import normal, random_sequences, random_weights
from promptreach.certificate import Evidence, Verdict
from promptreach.limits import memorisable, memorisable_statistics
from promptreach.weights import AttentionWeights, NormWeights

EYE = torch.eye(2, dtype=torch.float64)


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("kind", ["rms", "layer"])
def test_a_query_that_a_norm_moves_off_zero_has_slots_of_any_mass(heads, kind):
    bias = torch.tensor([1.0, 0.0]).double()
    eyes = EYE.expand(heads, 2, 2)
    weights = AttentionWeights(eyes, eyes, eyes, scale=1.0, query_norm=NormWeights(kind, torch.ones(2).double(), bias))
    sequences = [torch.tensor([[0.0, sign], [0.0, 0.0]]).double() for sign in (1.0, -1.0)]
    # One slot of key (log 1/2, 0) and value 0 beside two content tokens of mass 1: 1 / 2.5 = 0.4.
    targets = torch.tensor([[0.0, 0.4] * heads, [0.0, -0.4] * heads]).double()
    found = memorisable(weights, sequences, targets)
    assert found.verdict is Verdict.POSSIBLE
    assert found.floor.value == 0
    without = dataclasses.replace(weights, query_norm=NormWeights(kind, torch.ones(2).double()))
    assert memorisable(without, sequences, targets).verdict is Verdict.IMPOSSIBLE


def least_error(lse, mean, targets):
    """The least root-mean-square error over masses and value sums, in extended precision."""
    lse, mean, targets = (item.numpy().astype(np.longdouble) for item in (lse, mean, targets))
    points = np.linspace(lse.min() - 40, lse.max() + 40, 4000)
    for _ in range(4):
        share = (1 / (1 + np.exp(lse - points[:, None])))[..., None]
        kept = (1 / (1 + np.exp(points[:, None] - lse)))[..., None]
        missing, top = targets - kept * mean, share.max(axis=1, keepdims=True)
        rel = share / top
        value = (rel * missing).sum(1, keepdims=True) / (rel**2).sum(1, keepdims=True)
        errors = np.sqrt(((rel * value - missing) ** 2).mean(axis=(1, 2)))
        middle, step = points[errors.argmin()], points[1] - points[0]
        best, points = errors.min(), np.linspace(middle - 2 * step, middle + 2 * step, 400)
    return best


@pytest.mark.parametrize("spread", [250.0, 450.0, 599.0])
@pytest.mark.parametrize("seed", [1, 4])
def test_masses_far_apart_give_a_floor_that_holds_and_is_confirmed(spread, seed):
    draw = normal(seed)
    lse = torch.linspace(0, spread, 2 + seed).double()
    mean, targets = draw(2 + seed, 2), draw(2 + seed, 2)
    found = memorisable_statistics(draw(3), lse, mean, targets)
    assert found.floor.evidence is Evidence.PROVED
    assert found.floor.recheck()
    least = least_error(lse, mean, targets)
    assert found.floor.value <= least
    assert found.floor.value >= least * (1 - 1e-6)


@pytest.mark.parametrize("size", [1e-290, 1e-162, 1e-150, 1.0, 1e25])
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_tiny_huge_and_offset_values_give_the_same_floor(size, offset):
    draw = normal(7)
    lse, mean, targets = draw(3), draw(3, 2) + offset, draw(3, 2) + offset
    found = memorisable_statistics(draw(3), lse, size * mean, size * targets)
    assert found.floor.evidence is Evidence.PROVED
    least = least_error(lse, size * mean, size * targets)
    assert least * (1 - 1e-6) <= found.floor.value <= least


@pytest.mark.parametrize("size", [1e-170, 1e-150, 1e20])
@pytest.mark.parametrize("heads", [1, 2])
def test_a_layer_of_tiny_or_huge_values_is_proved(size, heads):
    weights, sequences = random_weights(6, 3, 1, heads, bias=False), random_sequences(6, 4, 1)
    targets = normal(1)(4, weights.output_size)
    ordinary = memorisable(weights, sequences, targets).floor
    scaled = memorisable(dataclasses.replace(weights, value=size * weights.value), sequences, size * targets).floor
    assert scaled.evidence is Evidence.PROVED
    assert scaled.value == pytest.approx(size * ordinary.value, rel=1e-6)


def test_no_gap_may_hide_a_whole_number_of_slots():
    draw = normal(2)
    floor = memorisable_statistics(0 * draw(3), draw(3), draw(3, 2), draw(3, 2)).floor
    group = floor.witness["groups"][0]
    boxes = group["boxes"][group["boxes"][:, 0].argsort()]
    assert len(boxes) > 4
    for kept in (boxes[1:], boxes[:-1], torch.cat([boxes[:2], boxes[3:]])):
        other = {**floor.witness, "groups": [{**group, "boxes": kept}]}
        assert not dataclasses.replace(floor, witness=other).recheck()
    narrow = boxes.clone()
    narrow[0, 0] += 0.01
    assert not dataclasses.replace(floor, witness={**floor.witness, "groups": [{**group, "boxes": narrow}]}).recheck()


def test_a_second_path_that_says_no_makes_the_answer_unknown(monkeypatch):
    monkeypatch.setattr("promptreach.limits.oracle.floor_check.checked_floor", lambda *_: 0.0)
    draw = normal(3)
    found = memorisable_statistics(draw(3), draw(3), draw(3, 2), draw(3, 2))
    assert found.verdict is Verdict.UNKNOWN
    assert found.floor.evidence is Evidence.UNKNOWN
    assert "second code path" in found.reason
