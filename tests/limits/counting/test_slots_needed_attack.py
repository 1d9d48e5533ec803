"""Slots that a tolerance needs, against slots that were fitted, exact cases and changed certificates."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from helpers.oracle_problems import normal
from helpers.tampering import damaged, said_otherwise
from promptreach.certificate import Evidence, Side
from promptreach.errors import InputError
from promptreach.limits import slots_needed


def best_of_slots(outputs, content, slots, pick, tries=60):
    """The least root-mean-square error over random shares of `slots` slots, each with the best values."""
    least, n = math.inf, len(outputs)
    beside = content is not None
    for _ in range(tries):
        scores = pick.normal(size=(n, slots + beside)) * pick.choice([0.3, 2.0, 8.0])
        shares = np.exp(scores - scores.max(1, keepdims=True))
        shares /= shares.sum(1, keepdims=True)
        wanted = outputs - shares[:, :1] * content if beside else outputs
        mixtures = shares[:, 1:] if beside else shares
        values = np.linalg.lstsq(mixtures, wanted, rcond=None)[0]
        least = min(least, float(((mixtures @ values - wanted) ** 2).mean()) ** 0.5)
    return least


@pytest.mark.parametrize("beside", [False, True])
def test_no_fewer_slots_come_as_near(beside):
    pick, above = np.random.default_rng(int(beside)), []
    for _ in range(10 if beside else 25):
        n, out = int(pick.integers(4, 10)), int(pick.integers(2, 9))
        outputs = pick.normal(size=(n, out)) * np.exp(-pick.uniform(0, 3) * np.arange(out))
        content = outputs + pick.normal(size=(n, out)) if beside else None
        slots = int(pick.integers(1, 6))
        reached = best_of_slots(outputs, content, slots, pick)
        rest = None if content is None else torch.from_numpy(content)
        least = slots_needed(torch.from_numpy(outputs), reached, rest)
        assert (least.evidence, least.side, least.rechecked) == (Evidence.PROVED, Side.LOWER, True)
        assert least.value <= slots
        above.append(least.value > (not beside))
    assert sum(above) >= 4


def test_points_of_a_simplex_need_a_slot_each_until_the_tolerance_lets_go():
    """The corners of a simplex, each looked at by one query, are slots themselves, and no fewer do."""
    corners = torch.eye(6, dtype=torch.float64)
    assert slots_needed(corners, 0.0).value == 6
    # Behind the mean all five singular values are 1: with k left out the error is sqrt(k / 36).
    for left_out in range(1, 6):
        error = math.sqrt(left_out) / 6
        assert slots_needed(corners, error * 0.999).value == 7 - left_out
        assert slots_needed(corners, error * 1.001).value == 6 - left_out


def test_outputs_that_do_not_differ_need_one_slot_and_those_of_the_content_none():
    same = normal(0)(1, 5).expand(7, 5)
    assert slots_needed(same, 0.0).value <= 1
    content = normal(1)(7, 5)
    assert slots_needed(content, 1e-6, content).value == 0
    assert slots_needed(content + normal(2)(7, 5), 1e-6, content).value > 2


def test_a_shared_offset_costs_one_slot_alone():
    outputs = 1e6 + normal(1)(40, 3)
    assert slots_needed(outputs, 0.1).value == slots_needed(outputs - 1e6, 0.1).value == 4


@pytest.mark.parametrize("size", [1e-200, 1e-9, 1e29])
def test_sizes_do_not_matter(size):
    outputs = normal(3)(40, 8) * torch.logspace(0, -4, 8, dtype=torch.float64)
    for tolerance in (1e-1, 1e-3, 1e-6):
        plain, scaled = slots_needed(outputs, tolerance), slots_needed(outputs * size, tolerance * size)
        assert scaled.rechecked
        assert scaled.value == plain.value


def test_many_rows_are_rechecked_at_once():
    outputs = normal(5)(512, 64) * torch.logspace(0, -6, 64, dtype=torch.float64)
    for tolerance in (1e-2, 1e-4, 1e-9):
        assert slots_needed(outputs, tolerance).rechecked


@pytest.mark.parametrize("beside", [False, True])
def test_a_count_that_was_changed_is_refused(beside):
    outputs = normal(1)(6, 9)
    least = slots_needed(outputs, 0.1, normal(2)(6, 9) if beside else None)
    assert least.value > 1
    assert [what for what, other in said_otherwise(least) if other.recheck()] == []
    assert [what for what, other in damaged(least) if other.recheck()] == []
    for value in (least.value + 1, least.value + 0.5, math.inf, -1.0):
        assert not dataclasses.replace(least, value=value).recheck()
    for name, other in {"tolerance": 3.0, "outputs": outputs * 0.01}.items():
        assert not dataclasses.replace(least, witness={**least.witness, name: other}).recheck()


def test_bad_arguments_are_refused_together():
    with pytest.raises(InputError) as raised:
        slots_needed(normal(0)(3, 4), -0.5, normal(1)(3, 5))
    assert [fault.where for fault in raised.value.faults] == ["content", "tolerance"]
    with pytest.raises(InputError, match="not empty"):
        slots_needed(normal(0)(0, 4), 0.1)
