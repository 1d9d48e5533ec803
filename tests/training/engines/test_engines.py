"""An engine by its name: the executor it gives, and what is refused before work starts."""

import os
from pathlib import Path

import pytest

from helpers.models import tiny_model
from helpers.tasks import Counted, labelled, task_of
from helpers.workers import NOWHERE, save
from promptreach.errors import InputError, MissingExtraError
from promptreach.training.engines.engines import engine_faults, open_engine
from promptreach.training.engines.executor import InProcess
from promptreach.training.runs import RunStore
from promptreach.tuning import fit


def test_a_model_in_memory_is_trained_here_or_refused() -> None:
    in_memory = task_of("gpt2")
    with open_engine(NOWHERE, Counted(), workers=2) as executor_of:
        assert isinstance(executor_of(in_memory), InProcess)
    with pytest.raises(InputError, match="Save it to a folder"):
        fit(in_memory.backbone, labelled(), engine="ray")


def test_bad_arguments_are_refused_all_at_once() -> None:
    with pytest.raises(InputError) as caught:
        fit(tiny_model("gpt2"), labelled(), engine="slurm", workers=0, ray_address="auto", steps=0)
    assert {fault.where for fault in caught.value.faults} == {"engine", "workers", "ray_address", "steps"}
    assert engine_faults("local", None, None, "a-model") == engine_faults("ray", 2, "auto", "a-model") == []


def test_without_ray_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("promptreach.training.engines.cluster.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r'pip install "ray>='):
        fit(save(tmp_path), labelled(), engine="ray", quiet=True)


def test_opening_an_engine_clears_what_killed_writers_left(tmp_path: Path) -> None:
    run = tmp_path / "0123"
    run.mkdir()
    old, young, theirs = (
        run / name for name in (f".run.json.{'0' * 12}.partial", f".x.{'1' * 12}.partial", ".partial")
    )
    for path in (old, young, theirs):
        path.write_text("half")
    for path in (old, theirs):
        os.utime(path, (1e9, 1e9))
    with open_engine(RunStore(tmp_path), Counted()) as executor_of:
        assert callable(executor_of)
    assert sorted(run.iterdir()) == sorted([young, theirs])
