"""Virtual tokens against the vocabulary."""

import math

import pytest

from helpers.models import tiny_model
from promptreach.diagnosis.measures.start import geometry_of


def test_geometry_of_vocabulary_rows_is_that_of_the_vocabulary() -> None:
    vocabulary = tiny_model("bert").vocabulary
    found = geometry_of(vocabulary, vocabulary)
    assert found.norm_ratio == pytest.approx(1.0)
    assert found.nearest_cosine == pytest.approx(1.0, abs=1e-5)
    assert geometry_of(4 * vocabulary, vocabulary).norm_ratio == pytest.approx(4.0)
    assert math.isclose(found.longer_than, 0.5, abs_tol=0.05)
