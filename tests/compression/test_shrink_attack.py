"""What shrinking refuses, by name and all at once."""

import math

import pytest
import torch
from jaxtyping import config as jaxtyping_config

from promptreach.attention import Statistics
from promptreach.errors import InputError
from promptreach.inference import shrink
from promptreach.prompt import Prefix


@pytest.fixture
def shapes_unchecked(monkeypatch):
    """Users run without the shape checks of the test run, which would speak first."""
    monkeypatch.setattr(jaxtyping_config, "jaxtyping_disable", True)


def test_shrinking_refuses_what_float32_cannot_sum(shapes_unchecked):
    generator = torch.Generator().manual_seed(0)
    prefix = Prefix(torch.randn(1, 1, 8, 4, generator=generator), torch.randn(1, 1, 8, 4, generator=generator))
    queries = torch.randn(1, 2, 16, 4, generator=generator)
    with pytest.raises(InputError) as caught:
        shrink(prefix, queries * 1e37, 3.0, steps=0.5)
    assert [fault.where for fault in caught.value.faults] == ["tokens", "steps", "queries"]
    full = Statistics(torch.full((1, 2, 16), torch.inf), torch.zeros(1, 2, 16, 4))
    with pytest.raises(InputError, match="lse"):
        shrink(prefix, queries, 3, content=full)
    assert shrink(prefix, queries * 1e10, 3, steps=2).certificate.value < math.inf
