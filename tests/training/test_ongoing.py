"""One training run: that it learns, repeats, keeps its best state, and ends well when training goes wrong."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from helpers.single_run import train
from helpers.tasks import FAMILIES, SOFT, config_of, no_step, task_of
from promptreach.training.methods.methods import METHODS
from promptreach.training.runs import Run, RunConfig, RunStore

NOWHERE = RunStore(None)
RATES = {"prompt": 0.1, "prefix": 0.3, "lora": 0.05}


def run_of(family: str, config: RunConfig, kind: str = "classification", store: RunStore = NOWHERE) -> Run:
    return train(task_of(family, kind), config, store, no_step)


@pytest.mark.parametrize("method", SOFT)
@pytest.mark.parametrize("family", FAMILIES)
def test_training_learns(family: str, method: str) -> None:
    # The head stands still: what is gained is the method's own.
    config = config_of(method, learning_rate=RATES[method], head_learning_rate=0.0, steps=64, patience=9)
    run = run_of(family, config)
    task = task_of(family)
    with METHODS[method].attach(task.backbone, config, task.encoded["train"].sequences) as trainable:
        before = task.evaluate("train", task.objective(), trainable.joined).mean_loss
    assert run.status == "finished"
    assert run.train_loss < 0.9 * before
    assert [look.step for look in run.curve] == [0, 16, 32, 48, 64]
    assert run.steps == 64


@pytest.mark.parametrize("method", SOFT)
def test_completions_are_learned(method: str) -> None:
    run = run_of("gpt2", config_of(method, learning_rate=RATES[method], steps=24), "completions")
    assert run.validation.mean_loss < 0.8 * run.curve[0].validation_loss
    assert run.head == {}
    assert run.held_out is not None
    assert (run.held_out.answers == 2).all()  # the word and the end


def same(first: Run, second: Run) -> bool:
    """Every tensor of two runs agrees, bit for bit."""
    pairs = [(first.state, second.state), (first.head, second.head), (first.held_out.tensors, second.held_out.tensors)]
    return all(a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a) for a, b in pairs)


@pytest.mark.parametrize("method", SOFT)
@pytest.mark.parametrize("family", FAMILIES)
def test_one_seed_one_run(family: str, method: str) -> None:
    config = config_of(method, learning_rate=1e-3)
    run = run_of(family, config)
    assert not all(look.validation_loss == run.curve[0].validation_loss for look in run.curve[1:])
    with torch.random.fork_rng():
        torch.manual_seed(99)  # nothing is drawn from the global generator
        again = run_of(family, config)
    assert same(run, again)
    assert [vars(look) for look in run.curve[1:]] == [vars(look) for look in again.curve[1:]]
    assert not same(run, run_of(family, replace(config, seed=1)))


@pytest.mark.parametrize("method", SOFT)
def test_the_best_state_is_kept(method: str) -> None:
    config = config_of(method, learning_rate=50.0, head_learning_rate=30.0, steps=8, patience=9)
    task = task_of("llama")
    run = run_of("llama", config)
    losses = [look.validation_loss for look in run.curve]
    assert min(losses[1:]) > losses[0]  # a rate so large that every look is worse than the start
    with METHODS[method].attach(task.backbone, config, task.encoded["train"].sequences) as trainable:
        start = trainable.state()
    assert all(torch.equal(run.state[name], tensor) for name, tensor in start.items())
    assert all(torch.equal(run.head[name], tensor) for name, tensor in task.objective().head_state().items())
    assert run.validation.mean_loss == losses[0]
    assert run.status == "finished"


def test_a_best_state_in_the_middle_is_the_one_that_scores() -> None:
    """Over many settings, what is kept scores as well as the best look did, and no other look did better."""
    bests = set()
    for rate in (0.03, 0.3, 1.0):
        run = run_of("gpt2", config_of("prefix", learning_rate=rate, steps=12, evaluations=6, patience=9))
        losses = [look.validation_loss for look in run.curve]
        assert run.validation.mean_loss == min(losses)
        bests.add(losses.index(min(losses)))
    assert bests - {0, 6}, "no run had its best look in the middle, so this test says nothing"


@pytest.mark.parametrize("rate", [1e30, math.inf])
@pytest.mark.parametrize("method", SOFT)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_rate_far_too_large_is_a_result(family: str, method: str, rate: float, tmp_path: Path) -> None:
    config = config_of(method, learning_rate=rate, patience=9)
    run = run_of(family, config, store=RunStore(tmp_path))
    # Llama's norm may turn 1e30 into zeros, as the products before it overflow or not: a finite loss, and no better
    # than the start.
    assert run.status == "diverged" or (family, rate, run.status) == ("llama", 1e30, "finished")
    assert 0 < run.steps <= config.steps
    assert all(math.isfinite(look.validation_loss) for look in run.curve)
    assert all(tensor.isfinite().all() for tensor in (*run.state.values(), *run.head.values()))
    assert run.adapter is not None
    assert run.validation.mean_loss == min(look.validation_loss for look in run.curve)
    again = run_of(family, config, store=RunStore(tmp_path))
    assert same(run, again)
    assert again.seconds == run.seconds  # found, not repeated


def test_a_start_that_is_not_a_number_is_a_result() -> None:
    task = task_of("gpt2")
    assert task.pooling is not None
    broken = replace(task.probes[task.pooling], bias=torch.full((2,), torch.nan))
    run = train(replace(task, probes={task.pooling: broken}), config_of("prompt"), NOWHERE, no_step)
    assert (run.status, run.steps, len(run.curve)) == ("diverged", 0, 1)
    assert math.isnan(run.train_loss)


def test_a_run_that_does_not_improve_stops_early() -> None:
    done = 0

    def step(advance: int = 1, note: str = "") -> None:
        nonlocal done
        done += advance

    config = config_of("prompt", learning_rate=5.0, head_learning_rate=1.0, steps=20, evaluations=10, patience=2)
    run = train(task_of("llama"), config, NOWHERE, step)
    assert run.steps == 4
    assert len(run.curve) == 3
    assert run.status == "finished"
    assert done == 20  # the bar is full all the same


def test_the_head_alone_takes_no_step() -> None:
    task = task_of("bert")
    for steps in (0, 50):
        run = run_of("bert", config_of("head", steps=steps))
        assert (run.steps, run.parameters, run.state, run.adapter, len(run.curve)) == (0, 0, {}, None, 1)
        assert run.validation.mean_loss == task.evaluate("validation", task.objective()).mean_loss
        assert all(torch.equal(run.head[name], part) for name, part in task.objective().head_state().items())


def test_a_trial_does_not_touch_the_held_out_rows() -> None:
    task = task_of("gpt2")
    without = replace(task, encoded={name: part for name, part in task.encoded.items() if name != "held_out"})
    run = train(without, config_of("prompt", score_held_out=False), NOWHERE, no_step)
    assert run.held_out is None
    with pytest.raises(KeyError, match="held_out"):
        train(without, config_of("prompt"), NOWHERE, no_step)


def test_the_log_holds_every_look(tmp_path: Path) -> None:
    run = run_of("gpt2", config_of("prefix"), store=RunStore(tmp_path))
    (folder,) = tmp_path.iterdir()
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [line["validation_loss"] for line in lines] == [look.validation_loss for look in run.curve]
    assert lines[0]["train_loss"] is None  # nothing was trained yet
