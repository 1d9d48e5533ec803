"""An audit's adapter goes to the hub whole, its address into the report, and a hub that refuses loses nothing."""

import json
import logging
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import promptreach
from helpers.command_line import run, saved_model
from helpers.hub import Hub, hub_here
from helpers.tasks import sentences
from promptreach.audit.publication import names_base, published, publishing_faults_of
from promptreach.errors import InputError, OutputError
from promptreach.hf import OpenModel
from promptreach.report.json import read_report
from promptreach.report.result import Recommendation
from promptreach.training.engines import executor

BASE, OTHER = "someone/some-model", "someone/another-model"
SHORT: dict[str, Any] = {"budget": "quick", "tokens": [2], "steps": 4, "batch_size": 8, "max_length": 16}
FOLDERS = {"prompt": "adapter", "head": "head"}
"""The folder of what is recommended, by the case."""


@dataclass
class Case:
    """A model and rows whose audit recommends something for certain."""

    model: OpenModel
    data: Path
    methods: list[str]

    @property
    def arguments(self) -> list[object]:
        settings = {name: value[0] if isinstance(value, list) else value for name, value in SHORT.items()}
        options = [part for name, value in settings.items() for part in (f"--{name.replace('_', '-')}", value)]
        options += ["--methods", ",".join(self.methods), "--learning-rates", "0.05"]
        return ["audit", self.model.name, self.data, *options]

    def audit(self, **options: Any) -> Any:
        return promptreach.audit(
            self.model.name, self.data, methods=self.methods, learning_rates=[0.05], **SHORT, **options
        )


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Case]:
    """Completions with prompts alone, of which the prompt is advised; and words that a head alone tells apart."""
    place = tmp_path_factory.mktemp("cases")
    texts = sentences(120, words=2)
    pairs = [{"prompt": text, "completion": text.split()[0]} for text in sentences(60)]
    words = [(text.split(), word) for text in texts for word in ("good", "bad")]
    labels = [{"text": " ".join([*[word] * 6, own[0], own[-1]]), "label": word} for own, word in words]
    found = {}
    for name, family, rows, methods in (
        ("prompt", "llama", pairs, ["prompt"]),
        ("head", "bert", labels, ["prompt", "lora"]),
    ):
        data = place / f"{name}.jsonl"
        data.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        found[name] = Case(saved_model(place / family, family), data, methods)
    return found


@dataclass
class Published:
    """A finished audit that Python published, and what the hub then had."""

    result: Any
    folder: Path
    address: str
    files: dict[str, bytes]
    private: dict[str, bool]


@pytest.fixture(scope="module")
def finished(cases: dict[str, Case], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Published]:
    """Each case, audited and published for everybody under another base's name."""
    found = {}
    for name, case in cases.items():
        folder = tmp_path_factory.mktemp("finished") / name
        with hub_here() as hub:
            result = case.audit(out=folder, push_to_hub=f"an-organisation/{name}", private=False, base_id=OTHER)
            address = f"{hub.address}/an-organisation/{name}"
            found[name] = Published(result, folder, address, uploaded(hub, f"an-organisation/{name}"), hub.private)
    return found


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def results_of(out: Path) -> dict[str, bytes]:
    """The same of an audit's folder, without its runs and without what tells who is at work there."""
    return {name: data for name, data in files_of(out).items() if not name.startswith(("runs", "."))}


def stamps(out: Path) -> dict[str, int]:
    """When each run of an audit was finished."""
    return {path.parent.name: path.stat().st_mtime_ns for path in (out / "runs").glob("*/run.json")}


def uploaded(hub: Hub, repo: str) -> dict[str, bytes]:
    return {name: data for name, data in hub.repositories[repo].items() if name != ".gitattributes"}


@pytest.mark.parametrize("name", list(FOLDERS))
def test_what_is_recommended_is_uploaded_whole_and_its_address_handed_back(
    name: str, cases: dict[str, Case], finished: dict[str, Published]
) -> None:
    one = finished[name]
    assert one.files == files_of(one.folder / FOLDERS[name])
    assert one.private == {f"an-organisation/{name}": False}
    assert one.result.recommendation.published == one.address
    assert one.result == read_report(one.folder / "report.json", type(one.result))
    for file, data in one.files.items():  # nobody else has this machine's folders
        assert cases[name].model.name.encode() not in data, file
    # The report with the address is the one that was written: it is handed back, and nothing is uploaded unasked.
    assert cases[name].audit(out=one.folder, base_id=OTHER, resume=True) == one.result


def test_the_command_line_shows_the_address_on_screen_page_and_in_the_report(
    cases: dict[str, Case], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with hub_here() as hub:
        more = ("--out", out, "--push-to-hub", "mine", "--base-id", BASE)
        status, said, err = run(*cases["prompt"].arguments, *more, "--quiet")
        address = f"{hub.address}/somebody/mine"
        assert uploaded(hub, "somebody/mine") == files_of(out / "adapter")
        assert hub.private == {"somebody/mine": True}
    report = read_report(out / "report.json")
    assert (status, err) == (report.exit_status, "")
    assert report.recommendation.published == address
    assert f"Published at {address}" in said
    assert address in (out / "report.html").read_text()
    assert address in repr(report)


def test_a_hub_that_refuses_at_the_end_loses_nothing(
    cases: dict[str, Case], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case, out = cases["prompt"], tmp_path / "an out"
    with hub_here() as hub:
        hub.full = True
        more = ("--out", out, "--push-to-hub", "mine", "--base-id", BASE, "--quiet")
        status, said, err = run(*case.arguments, *more)
        assert (status, said) == (2, "")
        assert f"The report is in {out}" in err
        written = results_of(out)
        assert {"report.html", "report.json", "adapter/adapter_config.json", "adapter/README.md"} <= set(written)
        assert read_report(out / "report.json").recommendation.published is None
        with pytest.raises(OutputError, match="hf upload mine"):
            case.audit(out=out, push_to_hub="mine", base_id=BASE, resume=True)
        hub.full = False
        # The remedy, word for word, as a shell reads it.
        carried_out(hub, shlex.split(err[err.index("hf upload") :]))
        assert uploaded(hub, "somebody/mine") == files_of(out / "adapter")
        assert hub.private == {"somebody/mine": True}
        assert results_of(out) == written
        # And the same call once more, which trains nothing.
        monkeypatch.setattr(executor, "train_side_by_side", lambda *_: pytest.fail("it was trained again"))
        status, said, _ = run(*case.arguments, *more, "--resume")
        address = f"{hub.address}/somebody/mine"
    assert status == read_report(out / "report.json").exit_status
    assert f"Published at {address}" in said
    assert read_report(out / "report.json").recommendation.published == address


def carried_out(hub: Hub, command: Sequence[str]) -> None:
    """Run a command of huggingface_hub against the stand-in."""
    program = Path(sys.executable).parent / command[0]
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "PYTHON"))}
    own = {"HF_ENDPOINT": hub.address, "HF_TOKEN": "hf_token", "HF_HUB_DISABLE_TELEMETRY": "1"}
    done = subprocess.run([program, *command[1:]], env=clean | own, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("fault", ["no token", "owner", "read", "content", "no id"])
def test_what_stands_against_it_is_told_before_anything_is_trained(
    fault: str, cases: dict[str, Case], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case, out = cases["prompt"], tmp_path / "out"
    for step in ("prepared", "claimed"):
        monkeypatch.setattr(f"promptreach.audit.run.{step}", lambda *_, **__: pytest.fail("it was begun"))
    with hub_here(token=None if fault == "no token" else "hf_token") as hub:
        hub.role = "read" if fault == "read" else "write"
        hub.repositories["somebody/mine"] = {"data.csv": b""} if fault == "content" else {"adapter_config.json": b"{}"}
        repo = "another/mine" if fault == "owner" else "mine"
        given = {"push_to_hub": repo} | ({} if fault == "no id" else {"base_id": BASE})
        options = [part for name, value in given.items() for part in (f"--{name.replace('_', '-')}", value)]
        status, _, err = run(*case.arguments, "--out", out, *options)
        assert (status, len(err.splitlines())) == (2, 1)
        with pytest.raises(InputError) as caught:
            case.audit(out=out, **given)
        assert hub.repositories["somebody/mine"].keys() in ({"data.csv"}, {"adapter_config.json"})
    words = {
        "no token": "hf auth login",
        "owner": "the owner 'another'",
        "read": "may only read",
        "content": "holds data.csv",
        "no id": "--base-id",
    }
    assert words[fault] in err
    assert words[fault] in str(caught.value)
    assert not (out / "report.json").exists()


def test_without_a_folder_there_is_nothing_to_upload(cases: dict[str, Case]) -> None:
    case = cases["prompt"]
    with hub_here():
        faults = publishing_faults_of("mine", case.model, BASE, None, dry_run=False)
        assert [fault.remedy for fault in faults] == ["pass out="]
        assert publishing_faults_of("mine", case.model, BASE, "out", dry_run=False) == []
    assert publishing_faults_of("a b", case.model, "", None, dry_run=True) == []
    assert publishing_faults_of(None, case.model, "", None, dry_run=False) == []


@pytest.mark.parametrize("name", list(FOLDERS))
def test_a_finished_audit_that_names_another_base_is_written_again_from_its_runs(
    name: str, cases: dict[str, Case], finished: dict[str, Published], tmp_path: Path
) -> None:
    first, out = finished[name].result, tmp_path / name
    shutil.copytree(finished[name].folder, out)
    assert [names_base(first, out, base) for base in (BASE, OTHER, "")] == [False, True, True]
    assert names_base(first, None, BASE)
    trained = stamps(out)
    assert trained
    with hub_here() as hub:
        result = cases[name].audit(out=out, resume=True, push_to_hub="mine", base_id=BASE)
        assert uploaded(hub, "somebody/mine") == files_of(out / FOLDERS[name])
        assert result.recommendation.published == f"{hub.address}/somebody/mine"
    assert names_base(result, out, BASE)
    assert BASE in (out / FOLDERS[name] / "README.md").read_text()
    assert result.verdict == first.verdict
    assert stamps(out) == trained  # none was trained again


def test_where_nothing_is_recommended_nothing_is_uploaded_and_that_is_said(
    finished: dict[str, Published], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    result, folder = finished["prompt"].result, finished["prompt"].folder
    none = result.model_copy(update={"recommendation": Recommendation(method=None, text="Collect more rows.")})
    with hub_here() as hub, caplog.at_level(logging.WARNING, "promptreach"):
        assert published(none, tmp_path, "mine", private=True) is none
        assert "nothing was uploaded to mine" in caplog.text
        assert published(result, folder, None, private=True) is result
        assert hub.repositories == {}
