"""The paired interval: that of the differences, honest with few rows, and a point where the rows are all there is."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from promptreach.diagnosis.measures.comparison import paired
from promptreach.diagnosis.numbers import Comparison
from promptreach.training.task.objective import Outcomes

STUDENT_95 = {1: 6.3138, 2: 2.9200, 3: 2.3534, 5: 2.0150, 10: 1.8125, 30: 1.6973, 1000: 1.6464}
"""The 95 % quantiles of Student's t by degrees of freedom, from any table."""


def outcomes(right: Tensor, loss: Tensor | None = None) -> Outcomes:
    ones = torch.ones(len(right))
    return Outcomes(ones if loss is None else loss, ones, right)


def draw(rows: int, chance: float, seed: int) -> Tensor:
    return (torch.rand(rows, generator=torch.Generator().manual_seed(seed)) < chance).float()


def test_interval_is_that_of_the_differences() -> None:
    easy, flip = draw(400, 0.8, 0), draw(400, 0.05, 1).bool()
    hard = torch.where(flip, 1 - easy, easy)
    found = paired(outcomes(hard), outcomes(easy), "accuracy")
    difference = (hard - easy).double()
    assert found.gain == pytest.approx(float(difference.mean()))
    # One disagreement more on either side, of about twenty.
    assert found.error == pytest.approx(float(difference.std() / 20), rel=0.1)
    # Far narrower than the two scores' own intervals, which is why it is paired.
    assert found.error < float(easy.double().std() / 20)


def test_a_few_rows_that_agree_are_no_certainty() -> None:
    right = torch.ones(5)
    found = paired(outcomes(right), outcomes(right), "accuracy")
    assert found.low < -0.2 < 0.2 < found.high


@given(rows=st.integers(2, 60), one=st.integers(0, 99), other=st.integers(100, 199))
def test_swapping_the_two_mirrors_the_interval(rows: int, one: int, other: int) -> None:
    first, second = outcomes(draw(rows, 0.7, one)), outcomes(draw(rows, 0.5, other))
    forth, back = paired(first, second, "accuracy"), paired(second, first, "accuracy")
    assert forth.low == pytest.approx(-back.high)
    assert forth.high == pytest.approx(-back.low)
    assert forth.low <= forth.high


@pytest.mark.parametrize("freedom", STUDENT_95)
def test_losses_take_students_quantile(freedom: int) -> None:
    rows = freedom + 1
    worse = torch.rand(rows, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    right, better = torch.ones(rows), torch.zeros(rows, dtype=torch.float64)
    found = paired(outcomes(right, better), outcomes(right, worse), "loss")
    half = STUDENT_95[freedom] * float(worse.std()) / math.sqrt(rows)
    assert found.low == pytest.approx(float(worse.mean()) - half, rel=1e-3)
    assert found.high == pytest.approx(float(worse.mean()) + half, rel=1e-3)


def test_one_row_says_nothing_about_others() -> None:
    one = torch.ones(1)
    found = paired(outcomes(one, one), outcomes(one, 2 * one), "loss")
    assert math.isinf(found.error)
    assert found.low == -math.inf


def test_where_the_rows_are_all_there_is_the_interval_is_a_point() -> None:
    found = paired(outcomes(torch.ones(3)), outcomes(torch.zeros(3)), "accuracy", every_row=True)
    assert found == Comparison(1.0, 1.0, 1.0, 0.0)
