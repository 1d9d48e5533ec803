"""Runs as records: kept whole, found under a name that means their settings, and never half there."""

import dataclasses
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.same_runs import assert_same_run
from helpers.single_run import train
from helpers.tasks import config_of, no_step, other_data, task_of
from promptreach.errors import OutputError
from promptreach.prompt import SoftPrompt
from promptreach.training.methods.initial import WarmStart
from promptreach.training.runs import Evaluation, Run, RunConfig, RunStore
from promptreach.training.task.task import Task, prepare
from promptreach.tuning import METHODS

CONFIG = config_of("prompt", learning_rate=0.03)


@pytest.fixture(scope="module")
def run() -> Run:
    return train(task_of("gpt2"), CONFIG, RunStore(None), no_step)


@pytest.mark.parametrize(
    "changed",
    [
        {"steps": 5},
        {"status": "diverged"},
        {"held_out": None},
        {"curve": ()},
        {"curve": (Evaluation(0, math.nan, 1.0, 0.5), Evaluation(2, 0.5, 1.0, 0.25))},
        {"state": {}},
        {"config": replace(CONFIG, learning_rate=0.1 + 0.2)},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_the_comparison_sees_every_difference(run: Run, changed: dict[str, Any]) -> None:
    assert_same_run(run, run)
    with pytest.raises(AssertionError):
        assert_same_run(replace(run, **changed), run)
    altered = {name: tensor + 1 for name, tensor in run.state.items()}
    with pytest.raises(AssertionError):
        assert_same_run(replace(run, state=altered), run)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["classification", "completions"])
def test_what_is_put_is_got(method: str, kind: str, tmp_path: Path) -> None:
    for number, config in enumerate((config_of(method), config_of(method, score_held_out=False))):
        run = train(task_of("gpt2", kind), config, RunStore(None), no_step)
        RunStore(tmp_path).put(str(number), run)
        assert_same_run(RunStore(tmp_path).get(str(number)), run)


@pytest.mark.parametrize(
    "changed", [{"status": "diverged", "curve": ()}, {"config": replace(CONFIG, learning_rate=math.inf)}]
)
def test_odd_runs_survive_as_well(run: Run, changed: dict[str, Any], tmp_path: Path) -> None:
    odd = replace(run, **changed)
    RunStore(tmp_path).put("odd", odd)
    assert_same_run(RunStore(tmp_path).get("odd"), odd)


def test_every_setting_changes_the_name() -> None:
    others: dict[str, Any] = {
        "method": "prefix",
        "tokens": 5,
        "rank": 1,
        "init": "random",
        "learning_rate": 0.030000000000000002,
        "steps": 7,
        "batch_size": 8,
        "head_learning_rate": 1e-4,
        "evaluations": 5,
        "patience": 4,
        "score_held_out": False,
        "seed": 1,
        "pause": 3,
        "bottleneck": 1,
        "reparameterise": True,
        "dropout": 0.1,
        "start": WarmStart(SoftPrompt(torch.ones(1, 2))),
        "lora_targets": ("query",),
        "own_text": (4, 5),
        "peft": '{"peft_type": "IA3"}',
    }
    assert set(others) == {field.name for field in dataclasses.fields(RunConfig)}
    store = RunStore(None)
    base = store.name("digest", CONFIG)
    names = {store.name("digest", replace(CONFIG, **{field: value})) for field, value in others.items()}
    assert len(names | {base, store.name("other digest", CONFIG)}) == len(others) + 2
    assert base == RunStore(Path("elsewhere")).name("digest", replace(CONFIG))


def test_the_model_and_the_data_change_the_name() -> None:
    def digest(task: Task) -> str:
        return task.digest

    task = task_of("gpt2")
    again = prepare(task.backbone, other_data("classification"), longest_prompt=8)
    digests = {digest(task), digest(again), digest(task_of("llama")), digest(task_of("gpt2", "completions"))}
    assert len(digests) == 4


def counting(config: RunConfig, store: RunStore) -> tuple[Run, bool]:
    """The run, and whether it was trained just now."""
    notes: list[str] = []

    def step(advance: int = 1, note: str = "") -> None:
        notes.append(note)

    run = train(task_of("gpt2"), config, store, step)
    return run, notes != ["done before"]


def test_a_finished_run_is_not_repeated(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    first, trained = counting(CONFIG, store)
    assert trained
    second, trained = counting(CONFIG, store)
    assert not trained
    assert_same_run(second, first)
    assert counting(replace(CONFIG, seed=1), store)[1]


@pytest.mark.parametrize("damage", ["no record", "cut tensors", "no tensors", "cut record", "tensors of another run"])
def test_a_run_that_cannot_be_read_is_run_again(damage: str, tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    first, _ = counting(CONFIG, store)
    folder = tmp_path / store.name(task_of("gpt2").digest, CONFIG)
    record, tensors = folder / "run.json", folder / "run.safetensors"
    if damage == "no record":
        record.unlink()
        (folder / "log.jsonl").write_text('{"step": 0}\n')
    elif damage == "cut tensors":
        tensors.write_bytes(tensors.read_bytes()[:-40])
    elif damage == "no tensors":
        tensors.unlink()
    elif damage == "cut record":
        record.write_bytes(record.read_bytes()[:-40])
    else:
        RunStore(tmp_path).put("other", replace(first, validation=first.validation, held_out=None))
        tensors.write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    assert store.get(folder.name) is None
    second, trained = counting(CONFIG, store)
    assert trained
    assert_same_run(replace(second, seconds=first.seconds), first)
    assert_same_run(store.get(folder.name), second)
    assert len((folder / "log.jsonl").read_text().splitlines()) == len(second.curve)  # begun afresh


def test_without_a_folder_nothing_is_kept(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = RunStore(None)
    store.logger("name")(run.curve[0])
    store.put("name", run)
    assert store.get("name") is None
    assert list(tmp_path.iterdir()) == []


def test_labels_say_what_was_trained() -> None:
    labels = [config_of(method).label for method in METHODS]
    sizes = "4 tokens, rank 2, bottleneck 3"
    assert labels == ["prompt 4 tokens", "prefix 4 tokens", "lora rank 2", f"unipelt {sizes}", "head", "full"]
    config = config_of("prefix", reparameterise=True, dropout=0.1, start=WarmStart(SoftPrompt(torch.ones(1, 2))))
    assert config.label == "prefix 4 tokens, reparameterised, dropout 0.1, warm start"


def test_logs_and_records_are_strict_json(run: Run, tmp_path: Path) -> None:
    """The loss before the first step is not a number, and JSON has none: it stands as null and comes back."""

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    store = RunStore(tmp_path)
    log = store.logger("name")
    for look in run.curve:
        log(look)
    store.put("name", run)
    texts = [*(tmp_path / "name" / "log.jsonl").read_text().splitlines(), (tmp_path / "name" / "run.json").read_text()]
    assert json.loads(texts[0], parse_constant=refuse)["train_loss"] is None
    assert all(json.loads(text, parse_constant=refuse) for text in texts)
    assert math.isnan(store.get("name").curve[0].train_loss)


@pytest.mark.parametrize("write", ["put", "pause", "logger"])
def test_a_file_where_a_folder_is_needed_is_an_output_error(write: str, run: Run, tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    (tmp_path / "name").write_text("", encoding="utf-8")
    with pytest.raises(OutputError, match="a file stands where a folder is needed"):
        getattr(store, write)("name", *{"put": [run], "pause": [{}, {}], "logger": []}[write])


def test_a_pause_that_cannot_be_removed_is_an_output_error(run: Run, tmp_path: Path) -> None:
    (tmp_path / "name" / "paused.safetensors").mkdir(parents=True)
    with pytest.raises(OutputError, match="name"):
        RunStore(tmp_path).put("name", run)


def test_a_full_disk_under_the_log_is_an_output_error(run: Run, tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    log = store.logger("name")
    (tmp_path / "name" / "log.jsonl").unlink()
    (tmp_path / "name" / "log.jsonl").symlink_to("/dev/full")
    with pytest.raises(OutputError, match="disk is full"):
        log(run.curve[0])


DAMAGES: list[dict[str, Any]] = [
    {"curve": []},
    {"curve": ["x"]},
    {"steps": "3"},
    {"seconds": None},
    {"config": 5},
    {"tensors": ""},
    {"more": 1},
]


@pytest.mark.parametrize("change", DAMAGES, ids=str)
def test_a_changed_record_is_no_run_and_said(
    change: dict[str, Any], run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = RunStore(tmp_path)
    store.put("it", run)
    file = tmp_path / "it" / "run.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    assert store.get("it") is None
    assert "is not as it was written" in caplog.text


@pytest.mark.parametrize("change", DAMAGES[1:5] + DAMAGES[6:], ids=str)
def test_a_record_that_was_signed_and_is_none_is_refused_by_its_schema(
    change: dict[str, Any], run: Run, tmp_path: Path
) -> None:
    store = RunStore(tmp_path)
    store.put("it", run)
    record = json.loads((tmp_path / "it" / "run.json").read_text())
    del record["digest"]
    store.write_record("it/run.json", record | change)
    assert store.get("it") is None


def test_the_tensors_of_another_run_are_told(run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = RunStore(tmp_path)
    for name in ("a", "b"):
        store.put(name, run)
    content = (tmp_path / "a" / "run.safetensors").read_bytes()
    (tmp_path / "b" / "run.safetensors").write_bytes(content)
    assert store.get("a") is not None
    assert store.get("b") is None
    assert "is not as it was written" in caplog.text


def test_runs_share_the_name_of_their_start_exactly_where_they_start_alike() -> None:
    config = config_of("prompt", steps=4)
    same = [replace(config, learning_rate=0.5), replace(config, steps=9, pause=3), replace(config, batch_size=2)]
    assert {one.start_name for one in same} == {config.start_name}
    others = [replace(config, seed=1), replace(config, init="random"), replace(config, tokens=9)]
    others += [replace(config, own_text=(1, 2)), config_of("prefix", steps=4)]
    assert len({one.start_name for one in (config, *others)}) == 6
