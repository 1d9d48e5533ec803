"""Weights of classes: balanced ones, named ones, and faults."""

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight

from promptreach.data import Completions, LabelledTexts, NumberedTexts, SeveralLabels, TaskData
from promptreach.training.task.class_weights import class_weight_faults, class_weights_of
from promptreach.training.task.encoding import Encoded
from promptreach.training.task.kinds.registry import KINDS

DATA = LabelledTexts(tuple("abcdef"), (0, 0, 0, 0, 1, 2), ("x", "y", "z"))
TRAIN = Encoded(tuple((row,) for row in range(6)), torch.tensor(DATA.labels), None, 0)


def test_balanced_weights_are_those_of_scikit_learn() -> None:
    found = class_weights_of("balanced", KINDS["labels"], DATA, TRAIN)
    assert found is not None
    expected = compute_class_weight("balanced", classes=np.arange(3), y=np.array(DATA.labels))
    assert torch.allclose(found.double(), torch.from_numpy(expected), atol=1e-6)


def test_named_weights_keep_their_proportions_and_are_one_in_the_mean() -> None:
    found = class_weights_of({"y": 4.0}, KINDS["labels"], DATA, TRAIN)
    assert found is not None
    assert torch.allclose(found / found[0], torch.tensor([1.0, 4.0, 1.0]))
    assert float(found[torch.tensor(DATA.labels)].mean()) == pytest.approx(1.0)
    assert class_weights_of(None, KINDS["labels"], DATA, TRAIN) is None


def test_each_of_several_labels_is_balanced_against_its_absence() -> None:
    data = SeveralLabels(tuple("abcd"), ((0,), (0,), (0, 1), ()), ("x", "y"))
    train = Encoded(tuple((row,) for row in range(4)), torch.tensor([[1, 0], [1, 0], [1, 1], [0, 0.0]]), None, 0)
    found = class_weights_of("balanced", KINDS["several_labels"], data, train)
    assert found is not None
    assert found.tolist() == pytest.approx([1 / 3, 3.0])


@pytest.mark.parametrize(
    ("given", "data", "expected"),
    [
        ("heavy", None, ["'heavy'"]),
        (3, DATA, ["3"]),
        ({"y": -1.0, "z": float("inf"), "w": 1.0}, DATA, ["-1.0 for 'y'", "inf for 'z'", "unknown class 'w'"]),
        ("balanced", NumberedTexts(("a",), (0.5,)), ["for numbers"]),
        ("balanced", Completions(("a",), ("b",)), ["for completions"]),
        ("balanced", DATA, []),
        (None, None, []),
    ],
)
def test_faults_are_told_all_at_once(given: object, data: TaskData | None, expected: list[str]) -> None:
    found = class_weight_faults(given, data)
    assert len(found) == len(expected)
    assert all(part in str(fault) for part, fault in zip(expected, found, strict=True))
