"""Data that no prompt fits, for weights of many shapes, and the control that one does."""

import dataclasses

import pytest
import torch

from helpers.oracle_problems import attack, random_weights
from helpers.tolerances import TOLERANCES
from promptreach.certificate import Evidence, Side, Verdict
from promptreach.errors import InputError
from promptreach.limits import memorisable, unmemorisable_pair
from promptreach.limits.oracle.forward import last_outputs

VALUE = TOLERANCES["oracle value", torch.float64][0]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    ("hidden", "head_dim", "out"), [(2, 2, None), (8, 4, None), (8, 8, 8), (8, 4, 2), (8, 4, 16), (96, 32, 96)]
)
def test_one_head_is_defeated_and_its_control_is_not(hidden, head_dim, out, bias):
    weights = random_weights(hidden, head_dim, hidden, out=out, bias=bias)
    sequences, targets, certificate = pair = unmemorisable_pair(weights, seed=1)
    assert len(sequences) == 2
    assert torch.equal(sequences[0][-1], sequences[1][-1])
    assert (certificate.evidence, certificate.side) == (Evidence.PROVED, Side.LOWER)
    assert certificate.recheck()
    assert not dataclasses.replace(certificate, value=certificate.value * 1.001).recheck()
    # The step from one target to the other is one that no prompt of infinite values makes.
    step, along = targets[0] - targets[1], torch.sub(*last_outputs(weights, sequences))
    assert abs(float(step @ along)) <= VALUE * float(step.norm() * along.norm())
    # In the layer's range: each target alone has a prompt.
    for sequence, target in zip(sequences, targets, strict=True):
        assert memorisable(weights, [sequence], target[None]).verdict is Verdict.POSSIBLE
    assert torch.equal(last_outputs(weights, sequences, None, pair.control_prompt), pair.control_targets)
    assert memorisable(weights, sequences, pair.control_targets, tol=1e-8).verdict is Verdict.POSSIBLE


def test_no_optimiser_fits_the_pair():
    weights = random_weights(6, 4, 1)
    sequences, targets, certificate = unmemorisable_pair(weights)
    for length in (1, 4, 16):
        assert attack(weights, sequences, targets, length, length) >= certificate.value


@pytest.mark.parametrize(("heads", "out"), [(2, 8), (2, None), (3, 12)])
def test_several_heads_get_data_large_enough(heads, out):
    weights = random_weights(12, 4, heads, heads, out=out)
    sequences, targets, certificate = pair = unmemorisable_pair(weights)
    assert certificate.value > 1e-6 * float(targets.square().mean().sqrt())
    assert certificate.recheck()
    assert len(pair.control_targets) == len(sequences)


def test_the_same_seed_gives_the_same_data():
    weights = random_weights(6, 4, 2)
    first, again, other = (unmemorisable_pair(weights, seed) for seed in (3, 3, 4))
    assert torch.equal(first.targets, again.targets)
    assert not torch.equal(first.targets, other.targets)


@pytest.mark.parametrize(
    ("weights", "told"),
    [
        (random_weights(4, 1, 0), "output dimension 1"),
        (random_weights(4, 1, 0, out=3), "one value dimension"),
        (dataclasses.replace(random_weights(4, 3, 0), value=torch.ones(1, 3, 4).double()), r"value\[0\]: rank 1"),
        (dataclasses.replace(random_weights(4, 3, 0), query=torch.zeros(1, 3, 4).double()), r"query\[0\]: rank 0"),
        (dataclasses.replace(random_weights(4, 3, 0), rotary=True), "rotary"),
    ],
)
def test_weights_outside_the_theorem_are_refused(weights, told):
    with pytest.raises(InputError, match=told):
        unmemorisable_pair(weights)
