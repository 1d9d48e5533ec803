"""Two training runs compared field by field."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import torch

from promptreach.training.runs import Run


def assert_same_run(found: Run | None, expected: Run) -> None:
    """Every field agrees, tensors bit for bit and NaN with NaN."""
    assert found is not None
    for field in dataclasses.fields(Run):
        assert_same(getattr(found, field.name), getattr(expected, field.name), field.name)


def assert_same_runs(found: Sequence[Run], expected: Sequence[Run]) -> None:
    """The same runs in the same order, bit for bit, times aside."""
    for one, other in zip(found, expected, strict=True):
        assert_same_run(dataclasses.replace(one, seconds=other.seconds), other)


def assert_same(found: Any, expected: Any, where: str) -> None:
    assert type(found) is type(expected), where
    if isinstance(expected, torch.Tensor):
        assert found.dtype == expected.dtype, where
        assert torch.equal(found, expected), where
    elif isinstance(expected, dict):
        assert found.keys() == expected.keys(), where
        for key in expected:
            assert_same(found[key], expected[key], f"{where}.{key}")
    elif isinstance(expected, tuple):
        assert len(found) == len(expected), where
        for index, (one, other) in enumerate(zip(found, expected, strict=True)):
            assert_same(one, other, f"{where}[{index}]")
    elif dataclasses.is_dataclass(expected):
        assert_same(vars(found), vars(expected), where)
    elif isinstance(expected, float) and math.isnan(expected):
        assert math.isnan(found), where
    else:
        assert found == expected, where
