"""The numbering of a classifier's labels is matched to the names: the best assignment on the training rows."""

from itertools import permutations

import pytest
import torch

from promptreach.diagnosis.measures.user_run import numbering


@pytest.mark.parametrize("classes", [2, 3, 4])
@pytest.mark.parametrize("extra", [0, 1, 3])
def test_every_numbering_is_found(classes: int, extra: int) -> None:
    labels = torch.arange(classes).repeat(20)
    for order in permutations(range(classes + extra), classes):
        answers = torch.tensor(order)[labels]
        answers[:classes] = order[0]  # some rows are wrong
        assert numbering(answers, labels, classes, classes + extra) == order


def test_among_equals_labels_stay_where_they_are() -> None:
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    assert numbering(torch.zeros(6, dtype=torch.long), labels, 3, 3) == (0, 1, 2)
    assert numbering(torch.tensor([0, 1, 1, 0, 0, 1]), torch.tensor([0, 0, 1, 1, 0, 1]), 2, 2) == (0, 1)


def test_labels_that_training_does_not_have() -> None:
    assert numbering(torch.tensor([1, 1]), torch.tensor([0, 0]), 3, 3) == (1, 0, 2)
    assert numbering(torch.tensor([2, 0]), torch.tensor([0, 2]), 3, 3) == (2, 1, 0)


def test_no_other_assignment_gets_more_rows_right() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        labels = torch.randint(3, (30,), generator=generator)
        answers = torch.randint(4, (30,), generator=generator)
        best = numbering(answers, labels, 3, 4)
        right = int((torch.tensor(best)[labels] == answers).sum())
        assert right == max(int((torch.tensor(o)[labels] == answers).sum()) for o in permutations(range(4), 3))
