"""Every claim runs, says what it found, and says no more than that."""

import importlib.metadata
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from markupsafe import escape
from typer.testing import CliRunner

from promptreach import cli
from promptreach.certificate import Evidence
from promptreach.claims import CLAIMS, Claim, ClaimResult, ClaimVerdict, rivals, run_claim, write_claim
from promptreach.claims import run as running
from promptreach.claims.claim import Outcome, Setting
from promptreach.errors import InputError
from promptreach.report.findings import Cell, Curve, Series
from promptreach.theorems import THEOREMS

TRAINED = {"A5", "R1"}
"""Claims that train adapters, and so must go on where they were killed."""

KEYS = [f"{paper}{number}" for paper in "AB" for number in range(1, 6)]


def made_up(verdict: ClaimVerdict, needs: tuple[str, ...] = ()) -> Claim:
    """A claim that finds `verdict` at once."""

    def run(setting: Setting) -> Outcome:
        figure = Curve(title="A point", x_label="x", y_label="y", series=[Series(name="one", x=[1.0], y=[2.0])])
        numbers = {"seed": setting.seed, "size": setting.pick("quick", "full")}
        return Outcome(verdict, "It was said so.", Evidence.MEASURED, (), numbers, figure)

    return Claim("Z1", "Made up", "nobody", "Nothing is claimed.", run, needs)


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
    again = ClaimResult.model_validate_json((tmp_path / f"{claim.key}.json").read_text(encoding="utf-8"))
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
    claim = next(claim for claim in CLAIMS if claim.key == name)
    module = sys.modules[claim.run.__module__]
    monkeypatch.setattr(module, "measure", lambda *_, **__: SimpleNamespace(error=SimpleNamespace(value=10.0)))
    result = run_claim(name)
    assert result.verdict is ClaimVerdict.FAILS
    assert because in result.because


def test_a_rival_is_ahead_only_by_more_than_the_seeds_differ() -> None:
    def rows(lead: float) -> list[list[Cell]]:
        return [[1, "prompt", "", 1, 0.7, 0.03], [1, "lora", "", 1, 0.7 + lead, 0.01], [1, "prefix", "", 1, 0.6, 0.5]]

    assert not rivals._is_ahead(rows(0.02))
    assert rivals._is_ahead(rows(0.04))


def test_packages_of_all_chosen_claims_are_asked_for_before_the_first_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    first = made_up(ClaimVerdict.HOLDS)
    others = [replace(first, key=key, needs=(f"no-such-{key}",)) for key in ("Y1", "Y2")]
    monkeypatch.setattr(running, "CLAIMS", (first, *others))
    monkeypatch.setattr(running, "run_claim", lambda *_, **__: pytest.fail("one ran"))
    seen = CliRunner().invoke(cli.app, ["claims", "run", "Z1", "Y1", "Y2"])
    assert seen.exit_code == 2
    assert "no-such-Y1" in seen.stderr
    assert "no-such-Y2" in seen.stderr


def test_a_missing_package_is_named_before_work_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "CLAIMS", (made_up(ClaimVerdict.HOLDS, needs=("no-such-package-here",)),))
    with pytest.raises(InputError, match="no-such-package-here"):
        run_claim("Z1")


@pytest.mark.parametrize(("verdict", "status"), [(ClaimVerdict.HOLDS, 0), (ClaimVerdict.FAILS, 1)])
def test_the_exit_status_says_whether_a_claim_holds(
    verdict: ClaimVerdict, status: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(running, "CLAIMS", (made_up(verdict),))
    seen = CliRunner().invoke(cli.app, ["claims", "run", "z1", "--out", str(tmp_path / "out")])
    assert seen.exit_code == status
    assert verdict.value in seen.stdout
    assert (tmp_path / "out" / "Z1.html").exists()


def test_claims_are_listed_and_printed_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = CliRunner().invoke(cli.app, ["claims"], env={"COLUMNS": "200"})
    assert listed.exit_code == 0
    assert all(claim.title in listed.stdout for claim in CLAIMS)
    records = [json.loads(line) for line in CliRunner().invoke(cli.app, ["claims", "--json"]).stdout.splitlines()]
    assert [record["key"] for record in records] == [claim.key for claim in CLAIMS]
    monkeypatch.setattr(running, "CLAIMS", (made_up(ClaimVerdict.HOLDS),))
    printed = CliRunner().invoke(cli.app, ["claims", "run", "Z1", "--json"])
    assert json.loads(printed.stdout)["verdict"] == "holds here"


@pytest.mark.parametrize("arguments", [["run", "C9"], ["run"], ["nonsense"]])
def test_a_wrong_call_exits_with_2(arguments: list[str]) -> None:
    assert CliRunner().invoke(cli.app, ["claims", *arguments]).exit_code == 2


def test_a_stopped_call_says_what_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def stop(setting: Setting) -> Outcome:
        for _ in setting.followed((1, 2), "numbers"):
            raise KeyboardInterrupt
        raise AssertionError("followed nothing")

    monkeypatch.setattr(running, "CLAIMS", (Claim("Z1", "Made up", "nobody", "Nothing is claimed.", stop),))
    seen = CliRunner().invoke(cli.app, ["claims", "run", "Z1", "--out", str(tmp_path / "out")])
    assert seen.exit_code == 130
    assert "call it again" in seen.stderr
    assert str(tmp_path / "out") in seen.stderr.replace("\n", "")


def test_what_is_followed_comes_whole_and_in_order() -> None:
    assert list(Setting().followed("abc", "letters")) == ["a", "b", "c"]
