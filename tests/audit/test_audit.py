"""The whole audit on tiny models: its report, its exit statuses, its promises about bad input, Ctrl-C and kill."""

import csv
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import promptreach
from helpers.audit_cases import rows, save_model, strip
from helpers.models import tiny_model, tiny_tokenizer
from promptreach import cli
from promptreach.audit import run as run_module
from promptreach.audit.settings import BUDGETS
from promptreach.errors import InputError, OutputError, WorkerLostError
from promptreach.hf import save_adapter
from promptreach.prompt import SoftPrompt
from promptreach.report.json import read_report
from promptreach.training.methods.initial import initial_prompt


@pytest.fixture(autouse=True)
def _small_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """The quick budget, shrunk until a tiny model takes seconds."""
    small = promptreach.tuning.Limits(64, 24, 48, 16)
    settings = BUDGETS["quick"].__class__("quick", 0, small, (2, 4), 2, 8, 8, 4)
    monkeypatch.setitem(BUDGETS, "quick", settings)


def write_csv(path: Path, count: int = 160) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["text", "label"])
        writer.writeheader()
        writer.writerows(rows(count))
    return path


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    save_model(folder, "bert")
    return folder


@pytest.fixture
def arguments(model_folder: Path, tmp_path: Path) -> list[str]:
    data = write_csv(tmp_path / "reviews.csv")
    return ["audit", str(model_folder), str(data), "--budget", "quick", "--out", str(tmp_path / "out"), "--quiet"]


def invoke(arguments: list[str]) -> Any:
    return CliRunner().invoke(cli.app, arguments)


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama"])
def test_classification_audit_measures_every_check(family: str, tmp_path: Path) -> None:
    result = promptreach.audit(tiny_model(family), rows(), budget="quick", out=tmp_path / "out")
    broken = {finding.check: finding.reason for finding in result.findings if finding.status == "failed"}
    assert broken == {}
    assert {finding.check for finding in result.findings} == {check.name for check in run_module.CHECKS}
    assert (tmp_path / "out" / "report.html").is_file()
    assert read_report(tmp_path / "out" / "report.json", promptreach.audit.AuditResult) == result
    assert result.exit_status in (0, 1, 3)
    if result.recommendation.adapter:
        assert (tmp_path / "out" / "adapter" / "adapter_config.json").is_file()


def test_completion_audit_measures_every_check(tmp_path: Path) -> None:
    pairs = [{"prompt": row["text"], "completion": f" {row['label'][0]} good"} for row in rows()]
    result = promptreach.audit(tiny_model("llama"), pairs, budget="quick", out=tmp_path / "out")
    assert [finding.reason for finding in result.findings if finding.status == "failed"] == []
    assert result.finding("training").values["metric"] == "loss"


def test_same_seed_same_report(tmp_path: Path) -> None:
    def once(name: str) -> dict[str, Any]:
        result = promptreach.audit(tiny_model("bert"), rows(), budget="quick", out=tmp_path / name)
        return strip(json.loads((tmp_path / name / "report.json").read_text()) | {"verdict": result.verdict.value})

    first, second = once("a"), once("b")
    assert first == json.loads(json.dumps(second).replace(str(tmp_path / "b"), str(tmp_path / "a")))


def test_without_out_nothing_is_written_until_asked(tmp_path: Path) -> None:
    result = promptreach.audit(tiny_model("bert"), rows(), budget="quick")
    assert list(tmp_path.iterdir()) == []
    result.write(tmp_path / "later")
    assert (tmp_path / "later" / "report.html").is_file()


def test_the_users_adapter_is_scored_beside_the_others(tmp_path: Path) -> None:
    model = tiny_model("bert")
    prompt = initial_prompt(model, 3, "random", model.tokenize([row["text"] for row in rows()]), 0)
    save_adapter(tmp_path / "mine", model, SoftPrompt(10 * prompt.embeddings))
    result = promptreach.audit(model, rows(), budget="quick", adapter=tmp_path / "mine")
    training = result.finding("training")
    assert training.values["yours"]["loss"] > 0
    assert any(row[0] == "your prompt" for row in training.blocks[0].rows)
    assert "your prompt" in result.finding("initialisation").values["far_out"]
    assert "your adapter" in result.finding("attention_share").values["mean"]
    assert len(result.finding("weight_change").values["your adapter"]["rank"]) == model.num_layers


def test_command_line_prints_the_verdict_first_and_exits_with_its_status(arguments: list[str], tmp_path: Path) -> None:
    outcome = invoke(arguments)
    report = read_report(tmp_path / "out" / "report.json")
    assert outcome.exit_code == report.exit_status
    assert outcome.stdout.startswith(report.verdict.value)


def test_json_flag_prints_the_report_and_nothing_else(arguments: list[str], tmp_path: Path) -> None:
    outcome = invoke([*arguments, "--json"])
    assert json.loads(outcome.stdout) == json.loads((tmp_path / "out" / "report.json").read_text())


def test_a_finished_report_is_not_overwritten_and_resume_hands_it_back(arguments: list[str], tmp_path: Path) -> None:
    first = invoke(arguments)
    written = (tmp_path / "out" / "report.json").read_bytes()
    refused = invoke(arguments)
    assert refused.exit_code == 2
    assert "report.json of a finished run" in refused.stderr
    again = invoke([*arguments, "--resume"])
    assert again.exit_code == first.exit_code
    assert (tmp_path / "out" / "report.json").read_bytes() == written


def test_a_lost_worker_ends_the_audit_so_that_resume_can_go_on(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(context: Any) -> Any:
        raise WorkerLostError(["prompt 4 tokens"], "killed by SIGKILL")

    checks = run_module.CHECKS
    broken = tuple(replace(check, measure=lost) for check in checks)
    monkeypatch.setattr(run_module, "CHECKS", broken)
    stopped = invoke(arguments)
    assert stopped.exit_code == 2
    assert "prompt 4 tokens" in stopped.stderr
    assert not (tmp_path / "out" / "report.json").exists()
    monkeypatch.setattr(run_module, "CHECKS", checks)
    assert invoke([*arguments, "--resume"]).exit_code in (0, 1, 3)


def test_engine_options_are_checked_and_remembered(arguments: list[str], tmp_path: Path) -> None:
    refused = invoke([*arguments, "--workers", "0", "--ray-address", "auto"])
    assert refused.exit_code == 2
    assert "workers" in refused.stderr
    assert "ray_address" in refused.stderr
    invoke([*arguments, "--workers", "1"])
    assert "--workers 1" in read_report(tmp_path / "out" / "report.json").recommendation.blocks[-1].text


@pytest.mark.slow
def test_worker_processes_decide_no_number(model_folder: Path, tmp_path: Path) -> None:
    for name, workers in (("one", 1), ("two", 2)):
        promptreach.audit(model_folder, rows(), budget="quick", out=tmp_path / name, workers=workers)
    one, two = (
        strip(json.loads((tmp_path / name / "report.json").read_text().replace(str(tmp_path / name), "OUT")))
        for name in ("one", "two")
    )
    assert one["findings"] == two["findings"]
    assert one["verdict"] == two["verdict"]


def test_resume_refuses_the_finished_report_of_another_call(arguments: list[str]) -> None:
    invoke(arguments)
    outcome = invoke([*arguments, "--resume", "--seed", "1"])
    assert outcome.exit_code == 2
    assert "another call" in outcome.stderr


def test_resume_looks_into_the_adapter_and_the_tokenizer(model_folder: Path, tmp_path: Path) -> None:
    """An adapter that was trained again lies in the same folder, and is another; a folder that moved is the same."""
    model = tiny_model("bert")

    def save(name: str, length: int) -> Path:
        return save_adapter(tmp_path / name, model, SoftPrompt(torch.ones(length, 32)))

    def audit(adapter: Path, **options: Any) -> Any:
        call = {"budget": "quick", "out": tmp_path / "out", "resume": True}
        return promptreach.audit(model_folder, rows(), adapter=adapter, **call, **options)

    first = audit(save("mine", 3))
    assert audit(save("moved", 3)) == first
    with pytest.raises(InputError, match="another call"):
        audit(save("mine", 2))
    with pytest.raises(InputError, match="another call"):
        audit(save("mine", 3), tokenizer=tiny_tokenizer("llama"))


def test_the_command_in_the_report_repeats_the_whole_call(arguments: list[str], tmp_path: Path) -> None:
    asked = ["--task", "encoder", "--dtype", "float64", "--num-layers", "1", "--seed", "0", "--revision", "main"]
    first = invoke([*arguments, *asked])
    again = read_report(tmp_path / "out" / "report.json").recommendation.blocks[-1].text
    words = shlex.split(again)[1:]
    for name, value in zip(asked[::2], asked[1::2], strict=True):
        assert words[words.index(name) + 1] == value
    second = invoke([*words, "--quiet"])
    assert second.exit_code == first.exit_code
    assert words[words.index("--out") + 1] == str(tmp_path / "out-again")
    keys = [read_report(tmp_path / name / "report.json").settings["key"] for name in ("out", "out-again")]
    assert keys[0] == keys[1]


def test_all_faults_are_told_at_once_and_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    out = tmp_path / "out"
    with pytest.raises(InputError) as raised:
        promptreach.audit(tmp_path / "empty", tmp_path / "none.csv", engine="slurm", out=out)
    text = str(raised.value)
    assert all(word in text for word in ("engine", "none.csv", "config.json"))
    assert not (out / "report.json").exists()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("text,label\n", "no rows"),
        ("text,label\ngood,x\nbad,x\n", "label"),
        ("words,tag\ngood,x\nbad,y\n", "column"),
    ],
)
def test_bad_data_exits_with_2_before_the_model_is_used(
    model_folder: Path, tmp_path: Path, content: str, told: str
) -> None:
    (tmp_path / "bad.csv").write_text(content)
    outcome = invoke(["audit", str(model_folder), str(tmp_path / "bad.csv"), "--out", str(tmp_path / "out")])
    assert outcome.exit_code == 2
    assert told in outcome.stderr


def test_an_adapter_for_another_model_exits_with_2(arguments: list[str], tmp_path: Path) -> None:
    other = tiny_model("bert", hidden_size=16, intermediate_size=24)
    prompt = initial_prompt(other, 3, "random", other.tokenize(["the cat"]), 0)
    save_adapter(tmp_path / "other", other, prompt)
    outcome = invoke([*arguments, "--adapter", str(tmp_path / "other")])
    assert outcome.exit_code == 2
    assert "virtual tokens of size 16; expected 32" in outcome.stderr


def test_a_context_too_short_for_any_prompt_is_refused(tmp_path: Path) -> None:
    short = tiny_model("bert", max_position_embeddings=9)
    with pytest.raises(InputError, match="virtual tokens"):
        promptreach.audit(short, rows(), budget="quick", out=tmp_path / "out")


def test_a_full_disk_at_the_end_keeps_the_runs(arguments: list[str], tmp_path: Path, monkeypatch: Any) -> None:
    def full(result: Any, folder: Path) -> Path:
        raise OutputError(promptreach.errors.Fault(str(folder), "the disk is full", "free space"))

    with monkeypatch.context() as patch:
        patch.setattr("promptreach.audit.run.write_report", full)
        outcome = invoke(arguments)
    assert outcome.exit_code == 2
    assert "disk is full" in outcome.stderr
    runs = sorted((tmp_path / "out" / "runs").glob("*/run.json"))
    stamps = [path.stat().st_mtime_ns for path in runs]
    assert runs
    assert invoke([*arguments, "--resume"]).exit_code in (0, 1, 3)
    assert [path.stat().st_mtime_ns for path in runs] == stamps


def test_ctrl_c_keeps_the_runs_and_says_how_to_go_on(arguments: list[str], tmp_path: Path, monkeypatch: Any) -> None:
    from promptreach.training.engines import executor

    real: Callable[..., Any] = executor.train_side_by_side
    calls = []

    def interrupted(*args: Any) -> Any:
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(executor, "train_side_by_side", interrupted)
        outcome = invoke(arguments)
    assert outcome.exit_code == 130
    assert "--resume" in outcome.stderr
    assert not (tmp_path / "out" / "report.json").exists()
    assert "--resume" in invoke(arguments).stderr
    assert invoke([*arguments, "--resume"]).exit_code in (0, 1, 3)


def test_a_check_that_breaks_leaves_the_report_whole(tmp_path: Path, monkeypatch: Any) -> None:
    def broken(context: Any) -> Any:
        raise RuntimeError("the roof fell in")

    checks = tuple(
        replace(check, measure=broken) if check.name == "inference_cost" else check for check in run_module.CHECKS
    )
    monkeypatch.setattr(run_module, "CHECKS", checks)
    result = promptreach.audit(tiny_model("bert"), rows(), budget="quick", out=tmp_path / "out")
    finding = result.finding("inference_cost")
    assert finding.status == "failed"
    assert "nobody foresaw happened in it (RuntimeError)" in finding.reason
    page = (tmp_path / "out" / "report.html").read_text()
    assert "nobody foresaw happened in it (RuntimeError)" in page
    assert "the roof fell in" not in page


KILLED = """
import sys
sys.path.insert(0, sys.argv[3])
from helpers import audit_cases
from promptreach.audit.settings import BUDGETS
from promptreach.tuning import Limits
from pathlib import Path
import promptreach
BUDGETS["quick"] = BUDGETS["quick"].__class__("quick", 0, Limits(64, 24, 48, 16), (2, 4), 2, 8, 8, 4)
promptreach.audit(Path(sys.argv[1]), audit_cases.rows(), budget="quick", out=sys.argv[2], resume=True)
"""


def test_kill_9_loses_no_finished_run_and_repeats_none(model_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    here = Path(__file__).parent
    command = [sys.executable, "-c", KILLED, str(model_folder), str(out), str(here)]
    # One thread, as in this process: sums in another order would differ in their last digits.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([*sys.path, str(here.parent)]), "OMP_NUM_THREADS": "1"}
    victim = subprocess.Popen(command, env=environment)
    deadline = time.monotonic() + 120
    while len(list(out.glob("runs/*/run.json"))) < 3 and victim.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    assert not (out / "report.json").exists()
    kept = {path: path.stat().st_mtime_ns for path in out.glob("runs/*/run.json")}
    subprocess.run(command, env=environment, check=True)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    # Opened the same way, so that the two reports differ in nothing but times and folders.
    undisturbed = promptreach.audit(model_folder, rows(), budget="quick", out=tmp_path / "whole")
    resumed = strip(json.loads((out / "report.json").read_text()))
    whole = strip(
        json.loads(json.dumps(undisturbed.model_dump(mode="json")).replace(str(tmp_path / "whole"), str(out)))
    )
    assert resumed["findings"] == whole["findings"]
    assert resumed["verdict"] == whole["verdict"]


def test_without_a_command_line_the_report_shows_the_call_in_python(model_folder: Path, tmp_path: Path) -> None:
    data = write_csv(tmp_path / "reviews.csv")
    result = promptreach.audit(model_folder, data, budget="quick", num_layers=1)
    again = result.recommendation.blocks[-1]
    assert again.language == "python"
    repeated = eval(again.text)
    assert repeated.settings["key"] == result.settings["key"]
