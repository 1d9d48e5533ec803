"""Every claim runs, says what it found, and says no more than that."""

import importlib.metadata
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from markupsafe import escape

from helpers.claims import made_up
from promptreach.certificate import Evidence
from promptreach.claims import CLAIMS, Claim, ClaimVerdict, experiments, read_claim, run_claim, write_claim
from promptreach.claims import run as running
from promptreach.claims.claim import Outcome, Setting
from promptreach.errors import InputError
from promptreach.theorems import THEOREMS

TRAINED = {"A5", "R1"}
"""Claims that train adapters, and so must go on where they were killed."""

KEYS = [f"{paper}{number}" for paper in "AB" for number in range(1, 6)]


def written_at(folder: Path) -> dict[Path, int]:
    """When each finished run in `folder` was written."""
    return {path: path.stat().st_mtime_ns for path in folder.glob("*/run.json")}


def test_the_ten_claims_and_their_rivals_are_there_once_and_in_order() -> None:
    assert [claim.key for claim in CLAIMS] == [*KEYS, "R1"]


def test_every_theorem_that_names_a_claim_names_one_that_runs() -> None:
    named = {theorem.claim for theorem in THEOREMS.values() if theorem.claim}
    assert named
    assert named <= set(KEYS)


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.key)
def test_a_claim_runs_at_quick_sizes(claim: Claim, tmp_path: Path) -> None:
    for name in claim.needs:
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            pytest.skip(f"needs the package {name}, which is not installed")
    result = run_claim(claim.key.lower(), folder=tmp_path / "runs")
    assert result.verdict is not ClaimVerdict.FAILS, result.because
    assert all(result.conditions.values())
    assert result.conditions or result.verdict is ClaimVerdict.NOT_EXECUTABLE, "nothing could make it fail"
    assert result.hypotheses
    assert all(item.detail for item in result.hypotheses if item.status == "DECLARED"), "why it cannot be checked"
    assert not result.full
    page = write_claim(result, tmp_path)
    assert str(escape(result.title)) in page.read_text(encoding="utf-8")
    assert (tmp_path / f"{claim.key}.svg").read_text(encoding="utf-8").startswith("<svg")
    again = read_claim(tmp_path / f"{claim.key}.json")
    assert again == result
    kept = written_at(tmp_path / "runs")
    assert bool(kept) == (claim.key in TRAINED)
    if kept:
        second = run_claim(claim.key, folder=tmp_path / "runs")
        assert second.numbers == result.numbers
        assert written_at(tmp_path / "runs") == kept, "a finished run was trained again"


def test_the_same_seed_gives_the_same_numbers_and_another_one_others() -> None:
    first, second, other = (run_claim("A3", seed=seed) for seed in (0, 0, 1))
    assert first.numbers == second.numbers
    rows = [[block.rows for block in result.blocks if block.kind == "table"] for result in (first, other)]
    assert rows[0] != rows[1]


def test_full_sizes_and_the_seed_reach_the_experiment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "CLAIMS", (made_up(ClaimVerdict.HOLDS),))
    assert run_claim("Z1", full=True, seed=7).numbers == {"seed": 7, "size": "full"}


def test_an_unknown_claim_is_refused_with_those_that_exist() -> None:
    with pytest.raises(InputError, match="A1, A2"):
        run_claim("C1")


def test_a_condition_that_does_not_hold_makes_the_claim_fail_and_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    claim = made_up(ClaimVerdict.HOLDS)

    def run(setting: Setting) -> Outcome:
        seen = {"the sky is up": True, "pigs fly": False, "fish walk": False}
        return replace(claim.run(setting), evidence=Evidence.PROVED, conditions=seen, seen="It rained.")

    monkeypatch.setattr(running, "CLAIMS", (replace(claim, run=run),))
    result = run_claim("Z1")
    assert result.verdict is ClaimVerdict.FAILS
    assert result.because == "It rained. Not seen here: pigs fly; fish walk."
    assert result.evidence is Evidence.MEASURED


@pytest.mark.parametrize(
    ("name", "because"),
    [("A1", "within its certificate"), ("B1", "within its certificate"), ("B2", "keeps to its certificates")],
)
def test_a_measured_error_above_the_certificate_makes_a_proved_claim_fail(
    name: str, because: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(experiments, "measure", lambda *_, **__: SimpleNamespace(error=SimpleNamespace(value=10.0)))
    result = run_claim(name)
    assert result.verdict is ClaimVerdict.FAILS
    assert because in result.because


def test_a_missing_package_is_named_before_work_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "CLAIMS", (made_up(ClaimVerdict.HOLDS, needs=("no-such-package-here",)),))
    with pytest.raises(InputError, match="no-such-package-here"):
        run_claim("Z1")


def test_what_is_followed_comes_whole_and_in_order() -> None:
    assert list(Setting().followed("abc", "letters")) == ["a", "b", "c"]
