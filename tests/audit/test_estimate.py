"""The estimate that opens an audit: made or not, it stops nothing, and the clock is read from its beginning."""

import time
from typing import Any

import pytest

from helpers.audit_cases import SETTINGS, rows
from helpers.models import tiny_model
from promptreach.audit import estimate
from promptreach.audit.estimate import Opening, estimated, gib
from promptreach.errors import Fault, InputError
from promptreach.tables import read_task

DATA = read_task(rows(60))


def test_it_says_what_will_be_trained_and_what_that_takes() -> None:
    began = time.monotonic()
    opening = estimated(tiny_model("gpt2"), DATA, SETTINGS, known_runs=2)
    assert opening.plan is not None
    assert opening.known_runs == 2
    for part in ("This takes about", "GiB here (PREDICTED", "prompt 3 tokens", "LoRA rank 2", "6 steps of 8 rows"):
        assert part in opening.text
    taken = opening.taken()
    assert taken.work_seconds > 0
    assert 0 < taken.seconds <= time.monotonic() - began + 1
    assert taken.memory_bytes > opening.plan.memory["weights"]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB"), "does not fit into memory"),
        (ZeroDivisionError("what"), "something that nobody foresaw happened in it (ZeroDivisionError)"),
    ],
)
def test_what_breaks_in_it_stops_no_audit(error: Exception, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any) -> Any:
        raise error

    monkeypatch.setattr(estimate, "planned", broken)
    opening = estimated(tiny_model("gpt2"), DATA, SETTINGS)
    assert opening.plan is None
    assert told in opening.text
    assert opening.taken().seconds >= 0


def test_what_is_wrong_with_the_call_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*args: Any) -> Any:
        raise InputError(Fault("tokens", "99", "at most 8"))

    monkeypatch.setattr(estimate, "planned", refused)
    with pytest.raises(InputError, match="99"):
        estimated(tiny_model("gpt2"), DATA, SETTINGS)


def test_an_accelerator_is_timed_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate.torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(estimate.torch.cuda, "max_memory_allocated", lambda card: (3 + card) * 2**30)
    taken = Opening(None, "why", on_cpu=False).taken()
    assert taken.work_seconds == taken.seconds
    assert gib(taken.memory_bytes) == "7.00 GiB"
