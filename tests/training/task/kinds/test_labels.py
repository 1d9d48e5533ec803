"""One label a text: weights that repeat rows, and constant answers."""

import numpy as np
import torch

from helpers.tolerances import assert_close
from promptreach.training.task.encoding import Encoded
from promptreach.training.task.kinds.labels import Labels


def encoded(labels: list[int], weights: list[float] | None = None) -> Encoded:
    """Texts of one token with these labels."""
    rows = tuple((index,) for index in range(len(labels)))
    return Encoded(rows, torch.tensor(labels), None, 0, weights=None if weights is None else torch.tensor(weights))


def test_a_weight_counts_a_row_so_often_in_the_probe() -> None:
    x = np.random.default_rng(0).normal(size=(12, 3))
    labels, weights = [0, 1, 2] * 4, [1.0, 2.0, 3.0] * 4
    repeated = [row for row, weight in enumerate(weights) for _ in range(int(weight))]
    once = Labels().problem(encoded(labels, weights), None, 3, 0, None)
    often = Labels().problem(encoded([labels[row] for row in repeated]), None, 3, 0, None)
    found = once.solve(x, np.arange(12), 0.1)
    expected = often.solve(x[repeated], np.arange(len(repeated)), 0.1)
    for one, other in zip(found, expected, strict=True):
        assert_close(torch.from_numpy(one), torch.from_numpy(other), "logistic regression")


def test_every_known_label_is_a_constant_answer() -> None:
    found = Labels().constants(encoded([0, 2, 2]), encoded([0, 2, 2, 1]))
    assert [one.accuracy for one in found] == [0.25, 0.5]
    assert Labels().counts(encoded([0, 2, 2]), 4).tolist() == [1, 0, 2, 0]
