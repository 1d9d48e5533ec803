"""Fewer rounds of timing, and shorter estimates: the numbers themselves are of no interest to tests."""

import pytest

from promptreach.audit import planning
from promptreach.audit.cost import times


@pytest.fixture(autouse=True)
def _few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(times, "MOST_ROUNDS", times.LEAST_ROUNDS)
    monkeypatch.setattr(planning, "MEASURED_SECONDS", 0.02)
