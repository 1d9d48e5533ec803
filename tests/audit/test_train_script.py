"""The program beside a report reaches the run's score with torch, transformers and PEFT alone."""

import itertools
import random
import re
import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.audit_cases import SETTINGS, rows, save_model, trained
from helpers.models import ENCODERS
from promptreach.audit.context import AuditContext, prepared
from promptreach.audit.train_script import BATCH_LINES, FILES, SCRIPT, script, start_of, why_no_script, write_training
from promptreach.hf import open_model
from promptreach.tables import read_task
from promptreach.training.runs import Run
from promptreach.training.search.sweep import sweep
from promptreach.training.task.encoding import training_batches
from promptreach.tuning import METHODS

POINT, NATS = 0.01, 0.002
"""The program takes the steps of the run itself, in its order: what is left is rounding, which training amplifies."""
RATES = {"prompt": 0.05, "prefix": 0.01, "lora": 0.005, "head": 0.0}
CASES = [("bert", method, "classification") for method in ("prompt", "prefix", "lora", "head")]
CASES += [("roberta", "prompt", "classification"), ("gpt2", "prefix", "classification")]
CASES += [("gpt2", method, "completion") for method in ("prompt", "prefix", "lora")]


def context_of(folder: Path, family: str, method: str, kind: str) -> tuple[AuditContext, Run]:
    """A context with one trained method on a model that lies in `folder`."""
    save_model(folder, family)
    examples = rows()
    if kind == "completion":
        examples = [{"prompt": row["text"], "completion": row["label"]} for row in examples]
    context = prepared(open_model(folder), read_task(examples), SETTINGS)
    config = context.config(method, tokens=3 * METHODS[method].uses_tokens, rank=2 * (method == "lora"))
    context.sweeps[config.label] = sweep(context.executor_of(context.task), config, rates=[RATES[method]])
    return context, context.sweeps[config.label].best


@pytest.mark.parametrize(("family", "method", "kind"), CASES)
def test_the_program_reaches_the_number(family: str, method: str, kind: str, tmp_path: Path, capsys: Any) -> None:
    context, run = context_of(tmp_path / "model", family, method, kind)
    assert why_no_script(context, run) == ""
    text = write_training(context, run, tmp_path / "report")
    assert len(text.splitlines()) <= 60
    assert "promptreach" not in text
    capsys.readouterr()
    runpy.run_path(str(tmp_path / "report" / SCRIPT))
    right, nats = map(float, re.findall(r"\d+\.\d+", capsys.readouterr().out))
    assert run.held_out is not None
    assert abs(right - run.held_out.accuracy) <= POINT
    assert abs(nats - run.held_out.mean_loss) <= NATS
    if method != "head":
        assert run.best_step > 0  # or the start alone would have been compared


@pytest.mark.parametrize("count", [1, 5, 16, 17, 100, 1203])
@pytest.mark.parametrize("size", [1, 16, 32])
def test_its_batches_are_those_of_the_run(count: int, size: int) -> None:
    draw = random.Random(count)
    lengths = [draw.randint(3, 60) for _ in range(count)]
    program: dict[str, Any] = {"torch": torch}
    exec("\n".join(BATCH_LINES), program)
    steps = 3 * -(-count // size)
    ours, theirs = (
        [*itertools.islice(batches(lengths, size, torch.Generator().manual_seed(4)), steps)]
        for batches in (training_batches, program["batches"])
    )
    assert theirs == ours


def test_its_files_can_be_written_again(tmp_path: Path) -> None:
    context, run = context_of(tmp_path / "model", "bert", "prompt", "classification")
    write_training(context, run, tmp_path / "report")
    before = {path.name: path.read_bytes() for path in (tmp_path / "report" / FILES).glob("*.*")}
    write_training(context, run, tmp_path / "report")
    assert {path.name: path.read_bytes() for path in (tmp_path / "report" / FILES).glob("*.*")} == before


def test_only_the_layers_that_were_opened(tmp_path: Path) -> None:
    context, label = trained(tmp_path / "model", "bert", "prompt", num_layers=1)
    text = script(context, context.runs[label])
    assert "config.num_hidden_layers = 1" in text
    assert len(text.splitlines()) <= 60


def test_what_peft_does_not_have_is_told(tmp_path: Path) -> None:
    context, run = context_of(tmp_path / "model", "bert", "prompt", "classification")
    told = {"unipelt": "no adapter of the kind 'unipelt'", "full": "no adapter of the kind 'full'"}
    for method, reason in told.items():
        assert reason in why_no_script(context, replace(run, config=replace(run.config, method=method)))
    for change, reason in (({"dropout": 0.1}, "dropped-out"), ({"reparameterise": True}, "reparameterised")):
        assert reason in why_no_script(context, replace(run, config=replace(run.config, **change)))


def test_the_bare_model_needs_no_program(tmp_path: Path) -> None:
    context, run = context_of(tmp_path / "model", "gpt2", "head", "completion")
    assert "nothing is trained" in why_no_script(context, run)
    assert start_of(context, run) is None
    assert "gpt2" not in ENCODERS
