"""The list of claims and a run of one: sizes and seed reach it, and what cannot run is refused before work starts."""

import os
from pathlib import Path

import pytest

from helpers.claims import made_up
from promptreach.claims import CLAIMS, ClaimVerdict, run_claim, run_claims
from promptreach.claims import run as running
from promptreach.errors import InputError
from promptreach.theorems import THEOREMS

KEYS = [f"{paper}{number}" for paper in "AB" for number in range(1, 6)]
OURS = [f"N{number}" for number in range(1, 6)]


def test_the_ten_claims_their_rivals_and_our_own_are_there_once_and_in_order() -> None:
    assert [claim.key for claim in CLAIMS] == [*KEYS, "R1", *OURS]


def test_every_theorem_that_names_a_claim_names_one_that_runs() -> None:
    named = {theorem.claim for theorem in THEOREMS.values() if theorem.claim}
    assert named
    assert named <= {*KEYS, *OURS}


def test_full_sizes_and_the_seed_reach_the_experiment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "CLAIMS", (made_up(ClaimVerdict.HOLDS),))
    assert run_claim("Z1", full=True, seed=7).numbers == {"seed": 7, "size": "full"}


def test_an_unknown_claim_is_refused_with_those_that_exist() -> None:
    with pytest.raises(InputError, match="A1, A2"):
        run_claim("C1")


def test_what_a_killed_call_left_half_written_goes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(running, "CLAIMS", (made_up(ClaimVerdict.HOLDS),))
    half = tmp_path / ".Z1.json.0123456789ab.partial"
    half.write_text("{")
    os.utime(half, (1, 1))
    assert [result.key for result in run_claims(["Z1"], out=tmp_path, quiet=True)] == ["Z1"]
    assert {path.name for path in tmp_path.iterdir()} == {"Z1.html", "Z1.svg", "Z1.json"}


def test_a_missing_package_is_named_before_work_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "CLAIMS", (made_up(ClaimVerdict.HOLDS, needs=("no-such-package-here",)),))
    with pytest.raises(InputError, match="no-such-package-here"):
        run_claim("Z1")
