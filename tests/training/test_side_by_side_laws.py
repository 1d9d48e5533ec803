"""Training side by side gives every run what it would reach alone."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from helpers.single_run import train
from helpers.tasks import config_of, no_step, task_of
from helpers.tolerances import assert_close
from promptreach.errors import InputError
from promptreach.training.methods.methods import METHODS
from promptreach.training.runs import Run, RunConfig, RunStore
from promptreach.training.side_by_side import JOINED_METHODS, groups, train_side_by_side

CASES = [("bert", "classification"), ("gpt2", "completions"), ("llama", "classification")]
SETTINGS = [(0.05, 0), (0.3, 0), (0.01, 1), (0.1, 2)]


def configs_of(method: str, **changes: object) -> list[RunConfig]:
    """Runs of different rates, starts and orders."""
    inits = METHODS[method].inits
    return [
        config_of(method, learning_rate=rate, seed=seed, init=inits[i % len(inits)], steps=8, evaluations=2, **changes)
        for i, (rate, seed) in enumerate(SETTINGS)
    ]


def together(family: str, configs: Sequence[RunConfig], kind: str = "classification") -> list[Run]:
    return train_side_by_side(task_of(family, kind), configs, RunStore(None), no_step)


def alone(family: str, config: RunConfig, kind: str = "classification") -> Run:
    return train(task_of(family, kind), config, RunStore(None), no_step)


def assert_same_path(one: Run, other: Run) -> None:
    """Two runs that took the same steps, up to the order of float sums."""
    assert (one.config, one.status, one.steps, one.parameters) == (
        other.config,
        other.status,
        other.steps,
        other.parameters,
    )
    for name, tensor in (one.state | one.head).items():
        # Adam divides a gradient by its size: where that is near zero, rounding turns into a part of a step.
        assert_close(tensor, (other.state | other.head)[name], "side by side")
    assert [look.step for look in one.curve] == [look.step for look in other.curve]
    for look, expected in zip(one.curve, other.curve, strict=True):
        assert look.validation_loss == pytest.approx(expected.validation_loss, rel=1e-3)


@pytest.mark.parametrize(("family", "kind"), CASES)
@pytest.mark.parametrize("method", JOINED_METHODS)
def test_every_run_goes_its_own_way(method: str, family: str, kind: str) -> None:
    configs = configs_of(method, patience=9)
    runs = together(family, configs, kind)
    for run, config in zip(runs, configs, strict=True):
        assert run.config == config
        assert_same_path(run, alone(family, config, kind))
    for index, run in enumerate(runs[1:], 1):  # and no two ways are the same
        with pytest.raises(AssertionError):
            assert_same_path(replace(runs[index - 1], config=run.config), run)


@pytest.mark.parametrize("bad", [math.inf, 1e30])
@pytest.mark.parametrize("method", JOINED_METHODS)
def test_a_run_that_diverges_takes_no_other_with_it(method: str, bad: float) -> None:
    configs = configs_of(method, patience=9)
    configs[1] = replace(configs[1], learning_rate=bad)
    runs = together("gpt2", configs)
    assert [run.status for run in runs] == ["finished", "diverged", "finished", "finished"]
    assert runs[1].steps < 8
    assert all(tensor.isfinite().all() for tensor in runs[1].state.values())
    for run, config in zip(runs, configs, strict=True):
        assert_same_path(run, alone("gpt2", config))


def test_a_large_gradient_is_clipped_for_its_own_run_only() -> None:
    """Clipped together, the quiet run's step would shrink with the other's gradient."""
    quiet, loud = config_of("prompt", learning_rate=0.01, steps=4), config_of("prompt", learning_rate=3.0, steps=4)
    run, _ = together("bert", [quiet, loud])
    assert_same_path(run, alone("bert", quiet))


def test_a_run_that_stops_early_leaves_the_others_going() -> None:
    stops = config_of("prompt", learning_rate=5.0, head_learning_rate=1.0, steps=12, evaluations=6, patience=2)
    goes = config_of("prompt", learning_rate=0.05, steps=12, evaluations=6, patience=6)
    first, second = together("llama", [stops, goes])
    assert (first.steps, second.steps) == (4, 12)
    assert_same_path(second, alone("llama", goes))


@pytest.mark.parametrize("method", JOINED_METHODS)
def test_one_batch_of_runs_pauses_and_goes_on(method: str) -> None:
    configs, store, task = configs_of(method, patience=9), RunStore(None), task_of("gpt2")
    train_side_by_side(task, [replace(config, pause=3) for config in configs], store, no_step)
    for run, config in zip(train_side_by_side(task, configs[:2], store, no_step), configs, strict=False):
        assert_same_path(run, alone("gpt2", config))


def test_the_same_batch_gives_the_same_bits_whatever_was_finished_before(tmp_path: Path) -> None:
    configs, task = configs_of("prompt", patience=9), task_of("bert")
    store = RunStore(tmp_path)
    expected = train_side_by_side(task, configs, store, no_step)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/run.json")}
    lost = tmp_path / store.name(task.digest, configs[2]) / "run.json"
    lost.unlink()
    again = train_side_by_side(task, configs, store, no_step)
    for run, other in zip(again, expected, strict=True):
        assert torch.equal(run.state["embeddings"], other.state["embeddings"])
        assert torch.equal(run.head["weight"], other.head["weight"])
    changed = {path for path in times if path.stat().st_mtime_ns != times[path]}
    assert changed == {lost}


def test_progress_counts_the_steps_of_all() -> None:
    done = 0

    def step(advance: int = 1, note: str = "") -> None:
        nonlocal done
        done += advance

    train_side_by_side(task_of("bert"), configs_of("prompt"), RunStore(None), step)
    assert done == 4 * 8


def test_only_runs_of_one_size_that_leave_the_weights_alone_share_a_pass() -> None:
    configs = [
        config_of("prompt"),
        config_of("lora"),
        config_of("prompt", learning_rate=0.2),
        config_of("prompt", tokens=2),
        config_of("lora", learning_rate=0.2),
        config_of("prompt", seed=3, init="text"),
        config_of("prefix"),
    ]
    assert groups(configs, 2) == [[0, 2], [5], [1], [3], [4], [6]]
    assert groups(configs, 9) == [[0, 2, 5], [1], [3], [4], [6]]
    assert groups(configs, 1) == [[0], [2], [5], [1], [3], [4], [6]]
    assert groups([], 3) == []


@pytest.mark.parametrize("method", ["lora", "head"])
def test_what_changes_the_weights_trains_alone(method: str) -> None:
    with pytest.raises(InputError, match=method):
        together("gpt2", [config_of("prompt"), config_of(method)])
    with pytest.raises(InputError, match=method):
        together("gpt2", [config_of(method), config_of(method, seed=1)])
    assert len(together("gpt2", [config_of(method)])) == 1


@pytest.mark.parametrize(
    "other", [config_of("prompt", tokens=5), config_of("prefix"), config_of("prefix", tokens=5)], ids=lambda c: c.label
)
def test_runs_of_two_sizes_or_methods_share_no_pass(other: RunConfig) -> None:
    with pytest.raises(InputError, match=f"runs of prompt 4 tokens and {other.label}; expected one run"):
        together("gpt2", [config_of("prompt"), other])


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_prefixes_with_their_own_dropout_share_a_pass(dropout: float) -> None:
    configs = [config_of("prefix", seed=seed, dropout=dropout, learning_rate=0.1) for seed in (0, 1)]
    configs.append(config_of("prefix", seed=2, reparameterise=True))
    for run, config in zip(together("gpt2", configs), configs, strict=True):
        assert_same_path(run, alone("gpt2", config))
