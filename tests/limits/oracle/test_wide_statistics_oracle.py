"""The statistics in extended precision against those of float64, within the account of their rounding."""

import dataclasses

import numpy as np
import pytest
import torch

from helpers.oracle_problems import normal, random_sequences, random_weights
from promptreach.limits.oracle.statistics import head_statistics
from promptreach.limits.oracle.wide_statistics import wide_statistics
from promptreach.weights import NormWeights


@pytest.mark.parametrize("norms", ["", "rms", "layer"])
@pytest.mark.parametrize("seed", range(4))
def test_both_agree_within_the_account(norms, seed):
    weights = random_weights(8, 4, seed, 4, 2, bias=seed % 2 == 0, size=(1.0, 5.0)[seed % 2])
    if norms:
        weight, bias = normal(seed)(4), normal(seed + 1)(4)
        norm = NormWeights(norms, weight, bias if seed % 2 else None)
        weights = dataclasses.replace(weights, query_norm=norm, key_norm=norm)
    sequences = random_sequences(8, 5, seed)
    for head in range(4):
        narrow = head_statistics(weights, sequences, head)
        lse, mean = wide_statistics(weights, sequences, head)
        assert (np.abs(lse - narrow.lse.numpy()) <= narrow.lse_error.numpy()).all()
        off = np.sqrt(((mean - narrow.mean.numpy()) ** 2).sum(1))
        assert (off <= narrow.mean_error.numpy()).all()
        assert float(narrow.mean_error.max()) < 1e-9 * float(narrow.mean.norm())
    assert lse.dtype == torch.zeros(1).double().numpy().astype(np.longdouble).dtype
