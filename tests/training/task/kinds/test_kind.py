"""What all kinds share: weights of rows, outputs laid out by token, and answers without a loss."""

import numpy as np
import torch

from promptreach.training.task.encoding import Encoded
from promptreach.training.task.kinds.kind import laid_out, row_weights, told

THREE = Encoded(((1, 2), (3,), (4, 5, 6)), torch.tensor([0, 1, 0]), None, 0)


def test_rows_count_by_their_own_weight_times_their_class_and_one_in_the_mean() -> None:
    heavy = Encoded(THREE.sequences, THREE.targets, None, 0, weights=torch.tensor([1.0, 2.0, 3.0]))
    classes = torch.tensor([0, 1, 0])
    assert row_weights(THREE, None, classes) is None
    own = row_weights(heavy, torch.tensor([1.0, 4.0]), classes)
    assert own is not None
    assert np.allclose(own, np.array([1, 8, 3]) / 4)


def test_outputs_stand_where_their_tokens_do_and_nothing_elsewhere() -> None:
    rows = torch.arange(1.0, 7.0).view(3, 2)
    found = laid_out(rows, {2: [0, 2], 0: [1]}, THREE)
    assert found.shape == (3, 3, 2)
    assert torch.equal(found[2, [0, 2]], rows[:2])
    assert torch.equal(found[0, 1], rows[2])
    assert found.count_nonzero() == 6


def test_answers_that_are_told_count_as_their_rows_do() -> None:
    heavy = Encoded(THREE.sequences, THREE.targets, None, 0, weights=torch.tensor([0.0, 1.0, 3.0]))
    assert told(heavy, torch.tensor([1.0, 0.0, 1.0])).accuracy == 0.75
    assert told(THREE, torch.tensor([1.0, 0.0, 1.0])).accuracy == 2 / 3
