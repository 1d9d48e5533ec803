"""Faults of the oracle's arguments, all told at once."""

import math

import pytest
import torch

from helpers.oracle_problems import normal, random_weights
from promptreach.errors import InputError
from promptreach.limits import memorisable, memorisable_statistics


def bad(**changes):
    draw = normal(0)
    given = {"weights": random_weights(4, 4, 0), "sequences": [draw(3, 4), draw(2, 4)], "targets": draw(2, 4)}
    return {**given, **changes}


def test_all_faults_are_told_at_once():
    with pytest.raises(InputError) as caught:
        memorisable(**bad(sequences=[torch.zeros(3, 5)], targets=torch.zeros(2, 3), tol=2.0))
    assert len(caught.value.faults) == 3


def test_bad_statistics_are_named():
    draw = normal(0)
    with pytest.raises(InputError, match="lse") as caught:
        memorisable_statistics(draw(4), torch.full((3,), math.nan).double(), draw(2, 4), draw(3, 4))
    assert len(caught.value.faults) == 2
    with pytest.raises(InputError, match="lse: no examples"):
        memorisable_statistics(draw(4), draw(0), draw(0, 4), draw(0, 4))
