"""``promptreach claims``: what it lists, runs, prints and refuses, and its exit status."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from helpers.claims import made_up
from helpers.command_line import run
from promptreach.claims import CLAIMS, Claim, ClaimVerdict
from promptreach.claims import run as running
from promptreach.claims.claim import Outcome, Setting


def test_packages_of_all_chosen_claims_are_asked_for_before_the_first_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    first = made_up(ClaimVerdict.HOLDS)
    others = [replace(first, key=key, needs=(f"no-such-{key}",)) for key in ("Y1", "Y2")]
    monkeypatch.setattr(running, "CLAIMS", (first, *others))
    monkeypatch.setattr(running, "run_claim", lambda *_, **__: pytest.fail("one ran"))
    status, _, err = run("claims", "run", "Z1", "Y1", "Y2")
    assert status == 2
    assert "no-such-Y1" in err
    assert "no-such-Y2" in err


@pytest.mark.parametrize(
    ("verdict", "status"), [(ClaimVerdict.HOLDS, 0), (ClaimVerdict.NOT_REPRODUCED, 1), (ClaimVerdict.FAILS, 1)]
)
def test_the_exit_status_says_whether_a_claim_holds(
    verdict: ClaimVerdict, status: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(running, "CLAIMS", (made_up(verdict),))
    seen, out, _ = run("claims", "run", "z1", "--out", tmp_path / "out")
    assert seen == status
    assert verdict.value in out
    assert (tmp_path / "out" / "Z1.html").exists()


def test_claims_are_listed_and_printed_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    status, listed, _ = run("claims")
    assert status == 0
    assert all(claim.title in listed for claim in CLAIMS)
    records = [json.loads(line) for line in run("claims", "--json")[1].splitlines()]
    assert [record["key"] for record in records] == [claim.key for claim in CLAIMS]
    monkeypatch.setattr(running, "CLAIMS", (made_up(ClaimVerdict.HOLDS),))
    _, printed, _ = run("claims", "run", "Z1", "--json")
    assert json.loads(printed)["verdict"] == "holds here"


@pytest.mark.parametrize("arguments", [["run", "C9"], ["run"], ["nonsense"]])
def test_a_wrong_call_exits_with_2(arguments: list[str]) -> None:
    assert run("claims", *arguments)[0] == 2


def test_a_stopped_call_says_what_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def stop(setting: Setting) -> Outcome:
        for _ in setting.followed((1, 2), "numbers"):
            raise KeyboardInterrupt
        raise AssertionError("followed nothing")

    monkeypatch.setattr(running, "CLAIMS", (Claim("Z1", "Made up", "nobody", "Nothing is claimed.", stop),))
    status, _, err = run("claims", "run", "Z1", "--out", tmp_path / "out")
    assert status == 130
    assert "call it again" in err
    assert str(tmp_path / "out") in err.replace("\n", "")
