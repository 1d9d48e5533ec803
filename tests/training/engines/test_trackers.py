"""Runs go to the trackers' own interface, once each and number by number; stand-ins take the packages' places."""

import math
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from helpers.tasks import task_of
from promptreach.errors import InputError, MissingExtraError, install_command
from promptreach.training.engines import trackers
from promptreach.training.engines.trackers import TRACKERS, Tracked, name_of, sending, tracker_faults
from promptreach.training.runs import Evaluation, Run, RunConfig
from promptreach.training.task.objective import Outcomes


def finished_run() -> Run:
    """A run of two looks, the first of which had no training behind it."""
    config = RunConfig(method="prompt", tokens=4, rank=0, init="vocabulary", learning_rate=0.1, steps=8, batch_size=4)
    seen = Outcomes(torch.tensor([0.5, 1.0]), torch.ones(2), torch.tensor([1.0, 0.0]))
    curve = (Evaluation(0, math.nan, 0.9, 0.5), Evaluation(8, 0.7, 0.75, 0.5))
    return Run(config, "finished", 128, 1.0, 8, 0.5, curve, seen, seen, {}, {})


@pytest.fixture
def trackio(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """Calls that a stand-in of trackio got."""
    calls: list[tuple[str, Any]] = []
    module = ModuleType("trackio")
    module.init = lambda **options: print("hello") or calls.append(("init", options))  # type: ignore[attr-defined]
    module.log = lambda numbers, step: calls.append(("log", (step, numbers)))  # type: ignore[attr-defined]
    module.finish = lambda: calls.append(("finish", None))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "trackio", module)
    return calls


@pytest.fixture
def tensorboard(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[tuple[str, float, int]]]:
    """Scalars that a stand-in of TensorBoard's writer got, by folder."""
    written: dict[str, list[tuple[str, float, int]]] = {}

    class Writer:
        def __init__(self, log_dir: str) -> None:
            self.scalars = written.setdefault(log_dir, [])

        def __enter__(self) -> "Writer":
            return self

        def __exit__(self, *error: object) -> None: ...

        def add_scalar(self, name: str, value: float, step: int) -> None:
            self.scalars.append((name, value, step))

    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = Writer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    return written


def executor_of(runs: list[Any]) -> Any:
    return lambda task: SimpleNamespace(task=task, run=lambda configs: runs)


def test_trackio_gets_every_look_once(
    trackio: list[tuple[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = finished_run()
    task = task_of("gpt2")
    with sending(executor_of([run, run]), "trackio", tmp_path) as maker:
        executor = maker(task)
        assert (executor.task, executor.run([run.config])) == (task, [run, run])
        executor.run([run.config])
    assert [name for name, _ in trackio].count("init") == 1
    assert trackio[0][1] == {"project": "promptreach", "name": name_of(run.config), "config": run.config.to_record()}
    assert trackio[-1] == ("finish", None)
    assert capsys.readouterr().out == ""
    sent = [numbers for name, numbers in trackio if name == "log"]
    assert [step for step, _ in sent] == [*(look.step for look in run.curve), run.steps]
    for look, (_, numbers) in zip(run.curve, sent, strict=False):
        assert numbers["validation_loss"] == look.validation_loss
        assert ("train_loss" in numbers) == math.isfinite(look.train_loss)
    assert sent[-1][1]["held_out_loss"] == run.held_out.mean_loss


def test_tensorboard_gets_a_folder_a_run(tensorboard: dict[str, list[tuple[str, float, int]]], tmp_path: Path) -> None:
    run = finished_run()
    with sending(executor_of([run]), "tensorboard", tmp_path) as maker:
        maker(task_of("gpt2")).run([run.config])
    ((folder, scalars),) = tensorboard.items()
    assert Path(folder) == tmp_path / name_of(run.config)
    assert ("validation_loss", run.curve[-1].validation_loss, run.curve[-1].step) in scalars
    assert ("held_out_accuracy", run.held_out.accuracy, run.steps) in scalars


def test_nothing_is_sent_unasked(tmp_path: Path) -> None:
    maker = executor_of([])
    with sending(maker, None, tmp_path) as same:
        assert same is maker
    assert not isinstance(same("a task"), Tracked)


def test_a_name_that_is_none_and_a_package_that_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    (fault,) = tracker_faults("wandb")
    assert "tensorboard" in fault.expected
    assert tracker_faults(None) == []
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    for name in TRACKERS:
        with pytest.raises(MissingExtraError) as caught:
            tracker_faults(name)
        assert install_command(name) in str(caught.value)
        assert isinstance(caught.value, InputError)
