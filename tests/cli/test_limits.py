"""``promptreach limits`` on a tiny model: what it prints, its exit status, and what it refuses."""

import json
from pathlib import Path

import pytest

from helpers.command_line import run, saved_model
from promptreach.commands import limits
from promptreach.report.findings import Finding


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model."""
    path = tmp_path_factory.mktemp("cli") / "model"
    saved_model(path)
    return path


def test_it_prints_every_layer_and_says_that_injectivity_is_open(folder: Path) -> None:
    status, out, _ = run("limits", folder, "--tokens", 8)
    assert status == 3
    assert "0 of 2 layers are certified injective" in out
    assert out.count("not certified") >= 2


def test_json_is_the_finding_of_as_many_layers_as_were_asked_for(folder: Path) -> None:
    status, out, _ = run("limits", folder, "--tokens", 8, "--num-layers", 1, "--seed", 2, "--json")
    record = json.loads(out)
    record.pop("schema_version")
    finding = Finding.model_validate(record)
    assert (status, finding.check, finding.values["layers"]) == (3, "lipschitz", 1)


@pytest.mark.parametrize(("certified", "status", "expected"), [(2, "done", 0), (1, "done", 3), (2, "failed", 3)])
def test_only_a_whole_model_that_is_certified_exits_with_0(
    certified: int, status: str, expected: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {"certified_layers": certified, "layers": 2}
    found = Finding(check="lipschitz", title="t", evidence="MEASURED", summary="s", status=status, values=values)
    monkeypatch.setattr(limits, "limits_of_model", lambda *_: found)
    assert run("limits", folder)[0] == expected


def test_a_wrong_call_exits_with_2(folder: Path, tmp_path: Path) -> None:
    status, _, err = run("limits", folder, "--tokens", 1)
    assert (status, "the model's context" in err) == (2, True)
    assert run("limits", tmp_path / "nothing")[0] == 2
    assert run("limits")[0] == 2
