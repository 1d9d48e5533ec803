"""The fit of log odds against its optimality condition, another solver, and refitting without each example."""

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from helpers.tolerances import assert_close
from promptreach.prediction.kernel_logistic import Fit, fit_log_odds, left_out, nats, reachable_share


def problem(rows: int, numbers: int, seed: int, each: int = 1, size: float = 2.0) -> tuple[Tensor, ...]:
    """Random features, their kernel, offsets, answers, and examples of `each` rows."""
    generator = torch.Generator().manual_seed(seed)
    features = size * torch.randn(rows, numbers, generator=generator, dtype=torch.float64) / numbers**0.5
    offset = torch.randn(rows, generator=generator, dtype=torch.float64)
    answers = 1.0 + torch.randint(3, (rows,), generator=generator).double()
    return features, features @ features.T, offset, answers, torch.arange(rows) // each


def assert_optimal(fit: Fit, kernel: Tensor, offset: Tensor, answers: Tensor) -> None:
    """Where the objective's gradient vanishes: the pull is the loss's own."""
    assert_close(fit.log_odds, offset + kernel @ fit.pull, "log odds")
    assert_close(kernel @ fit.pull, kernel @ (answers * torch.sigmoid(-fit.log_odds)), "log odds")


@settings(max_examples=30)
@given(
    rows=st.integers(1, 30),
    numbers=st.integers(1, 40),
    seed=st.integers(0, 2**31),
    each=st.integers(1, 3),
    size=st.sampled_from([1e-3, 1.0, 30.0]),
)
@hypothesis.example(rows=10, numbers=1, seed=124, each=1, size=30.0)  # the last step is below the objective's rounding
def test_the_fit_is_the_minimum(rows: int, numbers: int, seed: int, each: int, size: float) -> None:
    _, kernel, offset, answers, _ = problem(rows, numbers, seed, each, size)
    assert_optimal(fit_log_odds(kernel, offset, answers), kernel, offset, answers)


def test_a_fit_that_stopped_early_is_seen() -> None:
    _, kernel, offset, answers, _ = problem(10, 5, 0)
    fit = fit_log_odds(kernel, offset, answers)
    with pytest.raises(AssertionError):
        assert_optimal(Fit(0.99 * fit.pull, fit.log_odds, fit.precision), kernel, offset, answers)


def test_two_classes_are_logistic_regression() -> None:
    generator = np.random.default_rng(0)
    x = generator.normal(size=(60, 5))
    y = (x[:, 0] + generator.normal(size=60) > 0).astype(int)
    solver = LogisticRegression(C=1.0, fit_intercept=False, tol=1e-10, max_iter=1000).fit(x, y)
    expected = torch.from_numpy(solver.decision_function(x) * (2 * y - 1))
    features = torch.from_numpy(x * (2 * y - 1)[:, None])
    zeros, ones = torch.zeros(60, dtype=torch.float64), torch.ones(60, dtype=torch.float64)
    found = fit_log_odds(features @ features.T, zeros, ones).log_odds
    assert_close(found, expected, "logistic regression")


@settings(max_examples=20)
@given(seed=st.integers(0, 2**31), each=st.integers(1, 3), numbers=st.integers(1, 12))
def test_leaving_out_is_refitting_where_the_loss_is_quadratic(seed: int, each: int, numbers: int) -> None:
    """Least squares with weights w: minimise sum_i w_i (y_i - f_i)^2 / 2 + the squared norm of the parameters / 2."""
    features, kernel, target, weight, example = problem(9, numbers, seed, each)
    precision = torch.linalg.inv(kernel + torch.diag(1 / weight))
    others = torch.randn(9, numbers, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def fitted(keep: Tensor) -> Tensor:
        x, w = features[keep], weight[keep]
        system = x.T @ (w[:, None] * x) + torch.eye(numbers).double()
        return torch.linalg.solve(system, x.T @ (w * target[keep]))

    log_odds = features @ fitted(torch.ones(9).bool())
    fit = Fit(weight * (target - log_odds), log_odds, precision)
    # Rows of the fit itself, and other rows that stand for them: both are predicted without the example they name.
    for rows in (features, others):
        found = left_out(fit, example, torch.ones(9).double(), rows @ features.T, example)
        for left in example.unique():
            expected = 1.0 + rows @ fitted(example != left)
            assert_close(found[example == left], expected[example == left], "log odds")


def test_leaving_out_is_close_to_refitting_the_logistic_loss() -> None:
    _, kernel, offset, answers, example = problem(24, 6, 1, each=2)
    fit = fit_log_odds(kernel, offset, answers)
    exact = torch.empty_like(offset)
    for left in example.unique():
        keep = example != left
        rest = fit_log_odds(kernel[keep][:, keep], offset[keep], answers[keep])
        exact[~keep] = offset[~keep] + kernel[~keep][:, keep] @ rest.pull
    found = left_out(fit, example, offset, kernel, example)
    moved = (exact - fit.log_odds).norm()
    assert float((exact - found).norm() / moved) < 0.15
    assert abs(float((answers * (nats(exact) - nats(found))).sum() / answers.sum())) < 0.02


@settings(max_examples=30)
@given(rows=st.integers(1, 20), numbers=st.integers(1, 30), seed=st.integers(0, 2**31))
def test_a_row_is_never_better_off_left_out(rows: int, numbers: int, seed: int) -> None:
    _, kernel, offset, answers, example = problem(rows, numbers, seed)
    fit = fit_log_odds(kernel, offset, answers)
    assert (left_out(fit, example, offset, kernel, example) <= fit.log_odds + 1e-9).all()


@pytest.mark.parametrize("sure", [700.0, 2000.0])
def test_surely_right_rows_pull_at_nothing(sure: float) -> None:
    """Such log odds leave no curvature to divide by."""
    kernel, ones = torch.eye(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64)
    start = torch.tensor([sure, 0.0], dtype=torch.float64)
    fit = fit_log_odds(kernel, start, ones)
    found = left_out(fit, torch.arange(2), start, kernel, torch.arange(2))
    assert found.isfinite().all()
    assert float(fit.log_odds[0]) == sure
    assert float(found[1]) == pytest.approx(0.0, abs=1e-9)


def test_nothing_moves_without_a_kernel() -> None:
    start, zeros = torch.tensor([-1.0, 2.0], dtype=torch.float64), torch.zeros(2, 2, dtype=torch.float64)
    fit = fit_log_odds(zeros, start, torch.ones(2).double())
    assert torch.equal(fit.log_odds, start)
    assert torch.equal(left_out(fit, torch.arange(2), start, zeros, torch.arange(2)), start)


@settings(max_examples=30)
@given(rows=st.integers(2, 12), numbers=st.integers(1, 16), seed=st.integers(0, 2**31))
def test_the_reachable_share_is_that_of_least_squares(rows: int, numbers: int, seed: int) -> None:
    features, kernel, residual, _, _ = problem(rows, numbers, seed)
    fitted = features @ torch.linalg.lstsq(features, residual[:, None], driver="gelsd").solution[:, 0]
    expected = fitted.square().sum() / residual.square().sum()
    assert_close(torch.tensor(reachable_share(kernel, residual)).double(), expected, "reachable share")


def test_a_share_of_nothing_is_nothing() -> None:
    kernel, residual = torch.eye(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
    assert reachable_share(torch.zeros(3, 3).double(), residual) == 0.0
    assert reachable_share(kernel, torch.zeros(3).double()) == 0.0
