"""The pieces of the experiments where the right answer is known."""

import pytest
import torch

from promptreach.claims.experiments import least_error, random_head, timed


def test_a_search_finds_a_solution_that_exists_and_tells_an_error_relative_to_the_targets() -> None:
    targets = torch.tensor([3.0, 4.0], dtype=torch.float64)
    starts = [[torch.zeros(2, dtype=torch.float64)]]
    assert least_error(starts, lambda x: x, targets, 50) == pytest.approx(0, abs=1e-8)
    # One number for both targets: their mean is the best there is.
    found = least_error([[torch.zeros(1, dtype=torch.float64)]], lambda x: x.expand(2), targets, 50)
    assert found == pytest.approx(0.5 / 12.5**0.5)


def test_the_best_of_several_starts_counts() -> None:
    starts = [[torch.tensor([start], dtype=torch.float64)] for start in (5.0, 0.9)]
    found = least_error(starts, lambda x: x.square().square() - 2 * x.square(), torch.tensor([-1.0]), 0)
    assert 0 <= found < 1


def test_a_call_is_timed_and_its_last_value_returned() -> None:
    values = iter(range(3))
    seconds, value = timed(lambda: next(values), 3)
    assert seconds >= 0
    assert value == 2


def test_scores_of_a_random_head_have_a_deviation_of_about_one_nat() -> None:
    head = random_head(64, 32, torch.Generator().manual_seed(0))
    tokens = torch.randn(200, 64, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    scores = (tokens @ head.query[0].T) @ (tokens @ head.key[0].T).T * 32**-0.5
    assert 0.7 < float(scores.std()) < 1.4
