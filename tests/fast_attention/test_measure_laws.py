"""The two units of error."""

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


def test_error_units():
    exact = torch.tensor([[0.0, 5.0], [1.0, 5.0]])
    output = exact + torch.tensor([[0.0, 0.0], [0.5, 0.0]])
    assert range_error(output, exact, torch.tensor([2.0, 0.0])) == 0.25
    assert range_error(output, exact, torch.tensor([0.0, 0.0])) == 0.0
    assert deviation_error(output, exact) == pytest.approx(0.5 / 0.5**0.5)
    assert deviation_error(exact, exact) == 0.0
