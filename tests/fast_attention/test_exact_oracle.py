"""Exact attention block by block is exact attention at once."""

import torch

from helpers.attention_problems import normal
from helpers.tolerances import assert_close
from promptreach.fast_attention.exact import exact_head
from promptreach.fast_attention.problem import AttentionProblem


def test_blocks_of_one_row_make_the_whole() -> None:
    """Grouped heads, padding on the left and holes, values wider and narrower than keys."""
    mask = torch.ones(31, dtype=torch.bool)
    mask[:7] = mask[11] = False
    for width in (2, 4, 6):
        query, key, value = normal(0, 6, 23, 4), normal(1, 2, 31, 4), normal(2, 2, 31, width)
        for head in AttentionProblem(query, key, value, True, mask).heads():
            assert_close(exact_head(head, 1), exact_head(head, 2**28), "attention output")
