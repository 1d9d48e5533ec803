"""Claims that find something at once, and what holds of every run of one that is real."""

import importlib.metadata
from pathlib import Path

import pytest
from markupsafe import escape

from promptreach.certificate import Evidence
from promptreach.claims import CLAIMS, Claim, ClaimResult, ClaimVerdict, read_claim, run_claim, write_claim
from promptreach.claims.claim import Outcome, Setting
from promptreach.report.findings import Curve, Series, Table


def made_up(verdict: ClaimVerdict, needs: tuple[str, ...] = ()) -> Claim:
    """A claim that finds `verdict` at once."""

    def run(setting: Setting) -> Outcome:
        figure = Curve(title="A point", x_label="x", y_label="y", series=[Series(name="one", x=[1.0], y=[2.0])])
        numbers = {"seed": setting.seed, "size": setting.pick("quick", "full")}
        return Outcome(verdict, "It was said so.", Evidence.MEASURED, (), numbers, figure)

    return Claim("Z1", "Made up", "nobody", "Nothing is claimed.", run, needs)


def ran(key: str, folder: Path) -> ClaimResult:
    """A claim's result at quick sizes, after what holds of all: it does not fail, says why, and is written and read."""
    claim = next(claim for claim in CLAIMS if claim.key == key)
    for name in claim.needs:
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            pytest.skip(f"needs the package {name}, which is not installed")
    result = run_claim(key.lower(), folder=folder / "runs", quiet=True)
    assert result.verdict is not ClaimVerdict.FAILS, result.because
    assert all(result.conditions.values())
    assert result.conditions or result.verdict is ClaimVerdict.NOT_EXECUTABLE, "nothing could make it fail"
    assert result.hypotheses
    assert all(item.detail for item in result.hypotheses if item.status == "DECLARED"), "why it cannot be checked"
    assert not result.full
    page = write_claim(result, folder)
    assert str(escape(result.title)) in page.read_text(encoding="utf-8")
    assert (folder / f"{key}.svg").read_text(encoding="utf-8").startswith("<svg")
    assert read_claim(folder / f"{key}.json") == result
    return result


def runs_kept(folder: Path) -> dict[Path, int]:
    """When each finished training run of a claim that `ran` in a folder was written."""
    return {path: path.stat().st_mtime_ns for path in folder.glob("runs/*/run.json")}


def goes_on(result: ClaimResult, folder: Path) -> None:
    """Hold that a claim which trains, once it `ran`, trains no finished run again and finds the same numbers."""
    kept = runs_kept(folder)
    assert kept
    assert run_claim(result.key, folder=folder / "runs", quiet=True).numbers == result.numbers
    assert runs_kept(folder) == kept, "a finished run was trained again"


def rows_of(result: ClaimResult) -> list[list]:
    """The rows of a result's first table."""
    return next(block.rows for block in result.blocks if isinstance(block, Table))
