"""Rows drawn from one head: which come first, and which are exact."""

import pytest
import torch
from helpers.attention_problems import exact_of, smooth_head
from helpers.tolerances import assert_close
from promptreach.attention import statistics
from promptreach.errors import InputError
from promptreach.fast_attention.fused import fused_attention, fused_statistics
from promptreach.fast_attention.measure import deviation_error
from promptreach.fast_attention.problem import Head
from promptreach.fast_attention.sampled.centres import draw_slots
from promptreach.fast_attention.sampled.clustered import attend_clustered, cluster
from promptreach.fast_attention.sampled.groups import bisect, metric
from promptreach.fast_attention.sampled.landmark import fit_landmarks, trial_error
from promptreach.fast_attention.sampled.refit import RIDGES, Refit
from promptreach.inference import ToleranceNotReachedError, attend
from torch import Tensor
from promptreach.fast_attention.request import Request
from promptreach.fast_attention.sampled.rows import SampledHead
from helpers.attention_problems import sampled_head


def test_outlier_rows_come_first() -> None:
    query, key, value = smooth_head(500, 400)
    query[123] = 10 * query[123] + 5
    sampled = sampled_head(query, key, value)
    assert int(sampled.outlier_rows()[0]) == 123
    assert sorted(sampled.outlier_rows().tolist()) == list(range(500))
