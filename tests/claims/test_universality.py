"""A1: a prompt alone makes one backbone any function, measured within what is certified."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from helpers.claims import ran, rows_of
from promptreach.claims import ClaimVerdict, experiments, run_claim


def test_errors_stay_within_certificates_and_a_smaller_tolerance_takes_more_tokens(tmp_path: Path) -> None:
    result = ran("A1", tmp_path)
    assert result.verdict is ClaimVerdict.HOLDS
    rows = rows_of(result)
    assert all(0 < error <= bound <= tol for _, tol, _, _, error, bound in rows)
    for loose, tight in zip(rows[::2], rows[1::2], strict=True):
        assert loose[0] == tight[0]
        assert (loose[1] > tight[1], loose[2] < tight[2], loose[3] < tight[3]) == (True, True, True)
    # The paper's own construction is the larger one already where both fit.
    (paper,) = result.numbers["paper_construction"]
    assert paper["parameters"] > next(row[3] for row in rows if row[:2] == ["1 x 1", paper["tol"]])


def test_a_measured_error_above_the_certificate_makes_it_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiments, "measure", lambda *_, **__: SimpleNamespace(error=SimpleNamespace(value=10.0)))
    result = run_claim("A1")
    assert result.verdict is ClaimVerdict.FAILS
    assert "within its certificate" in result.because
