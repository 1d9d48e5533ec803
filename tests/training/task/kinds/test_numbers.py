"""Numbers against scikit-learn's ridge regression and plain arithmetic."""

import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score

from promptreach.training.task.encoding import Encoded
from promptreach.training.task.kinds.numbers import Numbers, StandardisedNumbers, scale_of
from promptreach.training.task.readout import blank_head

HEAD = blank_head()


def numbered(numbers: list[float], weights: list[float] | None = None) -> Encoded:
    """Texts of one token with these numbers."""
    rows = tuple((row,) for row in range(len(numbers)))
    own = None if weights is None else torch.tensor(weights)
    return Encoded(rows, torch.tensor(numbers, dtype=torch.float64), None, 0, weights=own)


def test_the_loss_is_half_the_squared_error_in_deviations() -> None:
    data = numbered([1.0, 2.0, 6.0])
    mean, deviation = scale_of(data)
    assert (mean, deviation) == (3.0, math.sqrt(14 / 3))
    outputs = torch.tensor([[0.0], [1.0]])
    found = StandardisedNumbers(HEAD, mean, deviation).answered(outputs, data, [2, 0])
    errors = [(3.0 - 6.0) / deviation, (3.0 + deviation - 1.0) / deviation]
    assert torch.allclose(found.loss, torch.tensor([error**2 / 2 for error in errors]))
    assert found.given is not None
    assert torch.allclose(found.given, torch.tensor([3.0, 3.0 + deviation]))
    assert math.isnan(found.accuracy)
    assert math.isnan(found.all_right)


@pytest.mark.parametrize(("rows", "features"), [(30, 4), (8, 12)])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_probe_is_a_ridge_regression(rows: int, features: int, weighted: bool) -> None:
    draw = np.random.default_rng(rows)
    x, y = draw.normal(size=(rows, features)) + 1, draw.normal(size=rows)
    weights = draw.uniform(0.5, 2, size=rows) if weighted else np.ones(rows)
    problem = Numbers().problem(numbered(y.tolist(), weights.tolist() if weighted else None), None, 1, 0, None)
    weight, bias = problem.solve(x, np.arange(rows), 0.1)
    standardised = (y - y.mean()) / y.std()
    share = weights / weights.sum()
    own = Ridge(alpha=0.1).fit(x, standardised, sample_weight=share)
    assert np.allclose(weight[0], own.coef_, atol=1e-6)
    assert np.allclose(bias[0], own.intercept_, atol=1e-6)
    loss, determined = problem.judge(x @ weight.T + bias)
    given = own.predict(x)
    assert np.isclose(loss, np.average((given - standardised) ** 2, weights=share) / 2, atol=1e-6)
    assert np.isclose(determined, r2_score(standardised, given, sample_weight=share), atol=1e-6)


def test_the_constant_answer_is_the_mean_of_the_training_numbers() -> None:
    (found,) = Numbers().constants(numbered([1.0, 3.0]), numbered([5.0, 6.0]))
    assert found.given is not None
    assert found.given.tolist() == [2.0, 2.0]
    assert Numbers().scale(numbered([4.0, 4.0])) == (4.0, 1.0)
