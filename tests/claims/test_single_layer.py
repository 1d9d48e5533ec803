"""B1: one attention layer of one head is enough, measured within what is certified, and large."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from helpers.claims import ran, rows_of
from promptreach.claims import ClaimVerdict, experiments, run_claim


def test_errors_stay_within_certificates_and_the_table_grows_fastest(tmp_path: Path) -> None:
    result = ran("B1", tmp_path)
    assert result.verdict is ClaimVerdict.CAVEAT
    loose, tight = rows_of(result)
    assert all(0 < error <= bound <= tol for tol, _, error, bound, *_ in (loose, tight))
    # Weights of all three as the tolerance is halved: the tables multiply, the function in the prompt alone adds.
    growth = {name: after / before for name, before, after in zip("wdp", loose[4:], tight[4:], strict=True)}
    assert growth["p"] < growth["w"] < growth["d"]
    assert result.numbers["parameters"]["programmable"]["parameters"] == [loose[6], tight[6]]


def test_a_measured_error_above_the_certificate_makes_it_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiments, "measure", lambda *_, **__: SimpleNamespace(error=SimpleNamespace(value=10.0)))
    result = run_claim("B1")
    assert result.verdict is ClaimVerdict.FAILS
    assert "within its certificate" in result.because
