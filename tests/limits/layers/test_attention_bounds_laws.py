"""Column sums of attention matrices, against the worst rows."""

import math
from decimal import Decimal

import torch

from promptreach.limits.layers.attention_bounds import column_sums


def test_column_sums_hold_for_the_worst_rows():
    """Every row puts what it can on the first token."""
    for span in (0.0, 0.7, 5.0):
        for tokens in (1, 2, 17):
            scores = torch.zeros(tokens, tokens, dtype=torch.float64)
            scores[:, 0] = span
            shares = scores.softmax(dim=1)[:, 0].sum()
            causal = scores.masked_fill(torch.ones_like(scores).triu(1).bool(), -math.inf).softmax(dim=1)[:, 0].sum()
            assert float(shares) <= float(column_sums(Decimal(span), tokens, causal=False)) * (1 + 1e-14)
            assert float(causal) <= float(column_sums(Decimal(span), tokens, causal=True)) * (1 + 1e-14)
