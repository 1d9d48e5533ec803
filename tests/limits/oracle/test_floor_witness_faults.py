"""A floor's certificate changed in any place is refused, or says something that is true all the same."""

import dataclasses

import pytest
import torch

from helpers.changed_certificates import changed_fields, changed_witnesses
from helpers.oracle_problems import normal, random_sequences, random_weights
from promptreach.certificate import Evidence
from promptreach.limits import memorisable, memorisable_statistics
from promptreach.limits.oracle.floor_witness import floor_over, unpacked


def layer(heads):
    weights = random_weights(3, 2, 3, heads, out=3 if heads == 1 else None)
    sequences = [*random_sequences(3, 2, 3), *random_sequences(3, 2, 4)]
    return memorisable(weights, sequences, normal(3)(4, weights.output_size)).floor


def captured():
    draw = normal(5)
    return memorisable_statistics(draw(3), draw(3), draw(3, 2), draw(3, 2)).floor


def whole_slots():
    draw = normal(5)
    return memorisable_statistics(0 * draw(3), draw(3), draw(3, 2), draw(3, 2)).floor


FLOORS = [lambda: layer(1), lambda: layer(2), captured, whole_slots]
NAMES = ["one head", "two heads", "captured", "whole slots"]


@pytest.mark.parametrize("made", FLOORS, ids=NAMES)
def test_every_changed_word_is_refused(made):
    floor = made()
    assert floor.evidence is Evidence.PROVED
    assert floor.rechecked
    assert floor.value > 0
    accepted = [what for what, other in changed_fields(floor) if other.recheck()]
    assert accepted == []


@pytest.mark.parametrize("made", FLOORS, ids=NAMES)
def test_a_changed_witness_is_refused_or_supports_the_number_still(made):
    floor = made()
    refused = 0
    for where, other in changed_witnesses(floor):
        if not other.recheck():
            refused += 1
            continue
        problem = unpacked(other.witness)
        if problem.weights is None:
            head = problem.statistics[0][0]
            query = other.witness["query"]
            again = memorisable_statistics(query, head.lse, head.mean, other.witness["targets"], problem.output)
        else:
            again = memorisable(problem.weights, problem.sequences, other.witness["targets"])
        assert again.floor.value * (1 + 1e-6) >= other.value, where
    assert refused > 30


@pytest.mark.parametrize("made", FLOORS[:1], ids=NAMES[:1])
def test_groups_counted_twice_or_left_out_are_refused(made):
    floor = made()
    groups = floor.witness["groups"]
    assert len(groups) == 2
    for other in ([*groups, groups[0]], groups[:1], [groups[0], groups[0]], groups[::-1]):
        assert not _with(floor, groups=other).recheck()


def test_statistics_with_a_smaller_account_are_refused():
    floor = layer(1)
    group = floor.witness["groups"][0]
    for name in ("log_mass_error", "mean_error"):
        head = {**group["heads"][0], name: torch.zeros_like(group["heads"][0][name])}
        assert not _with(floor, groups=[{**group, "heads": [head]}, *floor.witness["groups"][1:]]).recheck()


def test_the_floor_over_groups_neither_underflows_nor_overflows():
    assert floor_over([3e-200, 4e-200], 1) == pytest.approx(5e-200, rel=1e-15)
    assert floor_over([3e200, 4e200], 4) == pytest.approx(2.5e200, rel=1e-15)


def _with(floor, **changes):
    return dataclasses.replace(floor, witness={**floor.witness, **changes})
