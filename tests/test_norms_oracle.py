"""Norms of matrices whose answer is known by hand."""

import pytest
import torch

from promptreach.errors import InputError
from promptreach.norms import frobenius, max_norm, product_upper, spectral_lower, spectral_upper


def test_norms_of_a_matrix_with_known_singular_values():
    # Columns 3 e_1 and 4 e_2, rotated: singular values 4 and 3.
    turn = torch.tensor([[0.6, -0.8], [0.8, 0.6]], dtype=torch.float64)
    matrix = turn @ torch.diag(torch.tensor([3.0, 4.0], dtype=torch.float64))
    assert spectral_upper(matrix).value == pytest.approx(4, rel=1e-14)
    assert spectral_lower(matrix).value == pytest.approx(4, rel=1e-14)
    assert frobenius(matrix).value == pytest.approx(5, rel=1e-14)
    assert max_norm(matrix).value == matrix.abs().max().item()


def test_paper_b_uses_the_entrywise_maximum_not_a_row_sum():
    assert max_norm(torch.tensor([[1.0, -2.0], [2.0, 1.5]])).value == 2.0


def test_factors_whose_product_leaves_the_range_are_refused():
    small = 1e-80 * torch.ones(2, 2, dtype=torch.float64)
    assert product_upper(small, torch.ones(2, 2, dtype=torch.float64)).recheck()
    with pytest.raises(InputError, match="largest absolute entry"):
        product_upper(small, small)
