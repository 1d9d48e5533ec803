"""``promptreach capacity`` on a tiny model: what it writes, prints, resumes and refuses."""

import json
from pathlib import Path

import pytest

from helpers.command_line import run, saved_model, saved_text
from promptreach.report.findings import FINDING_VERSION, Finding

SHORT = ("--steps", 4, "--sequences", 2, "--longest", 12)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model and a text."""
    base = tmp_path_factory.mktemp("cli")
    saved_model(base / "model")
    return base / "model", saved_text(base / "text.txt", 4)


def test_it_prints_what_so_many_tokens_hold(folders: tuple[Path, Path]) -> None:
    model, text = folders
    status, out, _ = run("capacity", model, "--text", text, "--tokens", 1, "--tokens", 2, *SHORT)
    assert status == 0
    assert "2 virtual tokens take at least" in out
    assert "For each further virtual token" in out
    assert "lower bound" in out


def test_json_is_the_finding(folders: tuple[Path, Path]) -> None:
    model, _ = folders
    status, out, _ = run(
        *("capacity", model, "--random", "--tokens", 1, "--method", "prefix", "--num-layers", 1, "--vocabulary", 8),
        *("--json", *SHORT),
    )
    assert status == 0
    record = json.loads(out)
    assert record.pop("schema_version") == FINDING_VERSION
    finding = Finding.model_validate(record)
    assert finding.check == "capacity"
    (level,) = finding.values["levels"]
    assert (level["method"], level["kind"], level["tokens"]) == ("prefix", "random", 1)
    assert level["bound_bits"] == 32 * 2 * 2 * 8  # one layer's keys and values, 2 heads of size 8
    assert finding.values["vocabulary"] == 8
    assert {(part.side.value, part.evidence.value) for part in finding.certificates} == {
        ("LOWER", "MEASURED"),
        ("UPPER", "PROVED"),
    }


def test_out_receives_a_page_and_what_resumes(folders: tuple[Path, Path], tmp_path: Path) -> None:
    model, text = folders
    arguments = ("capacity", model, "--text", text, "--tokens", 1, "--tokens", 2, *SHORT, "--out", tmp_path / "out")
    status, out, _ = run(*arguments)
    assert status == 0
    assert str(tmp_path / "out" / "capacity.html") in out.replace("\n", "")
    page = (tmp_path / "out" / "capacity.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>") or page.startswith("<!DOCTYPE html>")
    assert page.count("<svg") >= 2
    record = json.loads((tmp_path / "out" / "capacity.json").read_text(encoding="utf-8"))
    points = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "points").glob("*.json")}
    assert len(points) == 2

    status, _, err = run(*arguments)
    assert (status, "--resume" in err) == (2, True)
    status, _, _ = run(*arguments, "--resume", "--tokens", 3)
    assert status == 0
    assert {path: path.stat().st_mtime_ns for path in points} == points
    again = json.loads((tmp_path / "out" / "capacity.json").read_text(encoding="utf-8"))
    assert again["values"]["rows"][:8] == record["values"]["rows"]
    assert len(again["values"]["rows"]) == 12


def test_it_refuses_with_every_reason(folders: tuple[Path, Path], tmp_path: Path) -> None:
    model, text = folders
    status, _, err = run("capacity", model, "--text", text, "--tokens", 0, "--steps", 0, "--sequences", 0)
    assert status == 2
    assert all(f"promptreach: {name}" in err for name in ("tokens", "steps", "sequences"))
    status, _, err = run("capacity", model, "--text", text, "--starts", 0)
    assert (status, "promptreach: starts: 0; expected at least 1" in err) == (2, True)
    status, _, err = run("capacity", model, "--text", tmp_path / "a", "--text", tmp_path / "b")
    assert (status, err.count("no such file")) == (2, 2)
    assert run("capacity", tmp_path / "nothing")[0] == 2


def test_an_encoder_is_told_why(tmp_path: Path) -> None:
    saved_model(tmp_path / "bert", "bert")
    status, _, err = run("capacity", tmp_path / "bert", "--tokens", 1)
    assert (status, "an encoder predicts none" in err) == (2, True)


def test_ctrl_c_says_how_to_go_on(folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("promptreach.capacity.capacity.capacity", interrupted)
    status, _, err = run("capacity", folders[0], "--out", tmp_path / "out")
    assert status == 130
    assert str(tmp_path / "out") in err.replace("\n", "")
