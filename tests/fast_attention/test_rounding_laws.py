"""Roundings are counted upwards."""

import math
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from helpers.tolerances import assert_close
from promptreach.fast_attention.measure import deviation_error, range_error
from promptreach.fast_attention.polynomial.features import evaluate, features, moments, monomials, rank
from promptreach.fast_attention.polynomial.preprocess import norms, prepare, prepare_values
from promptreach.fast_attention.polynomial.remainder import key_sums, tail_factor, theta
from promptreach.fast_attention.polynomial.tensors import form_norms, pair_index, spectral_above
from promptreach.fast_attention.problem import Head
from promptreach.fast_attention.rounding import gamma, unit
from helpers.attention_problems import normal


def test_roundings_are_counted_upwards():
    assert unit(torch.float32) == 2.0**-24
    assert unit(torch.float64) == 2.0**-53
    for count in (1, 100, 10_000):
        assert (1 + unit(torch.float32)) ** count - 1 <= gamma(count, torch.float32)
    assert gamma(2**24, torch.float32) == math.inf
