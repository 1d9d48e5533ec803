"""B2: the papers' length is exponential in the size of an input, and neither necessary nor the shortest built."""

import math
from pathlib import Path
from types import SimpleNamespace

import pytest

from helpers.claims import ran, rows_of
from promptreach.claims import ClaimVerdict, experiments, run_claim


def test_the_lengths_are_those_of_the_formula_and_what_is_built_lies_between(tmp_path: Path) -> None:
    result = ran("B2", tmp_path)
    assert result.verdict is ClaimVerdict.CAVEAT
    # Theorem 2.5 for L tokens of one number, alpha 2 and C 1: L (2 sqrt(L) / tol)^L.
    sizes = result.numbers["sizes"]
    formula = [math.log10(size) + size * math.log10(2 * size**0.5 / 0.1) for size in sizes]
    assert result.numbers["sufficient_log10"] == pytest.approx(formula)
    assert result.numbers["necessary_log10"] == sorted(result.numbers["necessary_log10"])
    for tol, necessary, index, sufficient, slots, _, at_that_width, error in rows_of(result):
        assert necessary <= index <= sufficient
        assert at_that_width <= slots < sufficient
        assert error <= tol


def test_a_measured_error_above_the_certificate_makes_it_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiments, "measure", lambda *_, **__: SimpleNamespace(error=SimpleNamespace(value=10.0)))
    result = run_claim("B2")
    assert result.verdict is ClaimVerdict.FAILS
    assert "keeps to its certificates" in result.because
