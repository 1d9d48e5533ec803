"""Log masses and means from the fused kernel are those of the definition."""

import pytest
import torch

from helpers.attention_problems import smooth_head
from helpers.tolerances import assert_close
from promptreach.attention import statistics
from promptreach.fast_attention.fused import fused_statistics


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [0.1, 1.0, 4.0])
def test_fused_statistics_are_the_definition(size: float, dtype: torch.dtype) -> None:
    query, key, value = smooth_head(50, 333, size, dtype)
    query, key = query * 8**-0.5, key - key.mean(dim=0)
    weight = torch.linspace(-2, 1, len(key), dtype=dtype)
    for log_weight in (None, weight):
        got = fused_statistics(query, key, value, log_weight)
        mask = None if log_weight is None else log_weight.double()[None]
        truth = statistics(query.double(), key.double(), value.double(), 1.0, mask)
        assert_close(got.lse, truth.lse, "fused statistic")
        assert_close(got.mean, truth.mean, "fused statistic")
