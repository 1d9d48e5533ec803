"""Choosing a learning rate: the trial with the best validation loss decides."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from planted import SOFT, Counted, config_of, task_of
from promptreach.tuning.methods import METHODS
from promptreach.tuning.runs import RunStore
from promptreach.tuning.sweep import planned_steps, sweep

NOWHERE = RunStore(None)
CONFIG = config_of("prompt", steps=20, patience=9)


@pytest.mark.parametrize("rates", [(1e-5, 0.3, 50.0), (50.0, 0.3, 1e-5), (1e-5, 1e-2)])
def test_the_best_validation_loss_decides(rates: tuple[float, ...]) -> None:
    found = sweep(task_of("gpt2"), CONFIG, NOWHERE, Counted(), rates)
    losses = {trial.config.learning_rate: trial.validation.mean_loss for trial in found.trials}
    assert tuple(losses) == rates
    assert len(set(losses.values())) == len(rates)
    assert found.best.config == replace(CONFIG, learning_rate=min(losses, key=losses.__getitem__))
    assert found.best.held_out is not None


def test_trials_are_short_and_see_no_held_out_row() -> None:
    found = sweep(task_of("gpt2"), CONFIG, NOWHERE, Counted(), (0.1, 0.2))
    for trial, rate in zip(found.trials, (0.1, 0.2), strict=True):
        assert trial.config == replace(CONFIG, learning_rate=rate, steps=5, evaluations=1, score_held_out=False)
        assert trial.held_out is None


def test_a_trial_is_judged_by_where_it_led() -> None:
    """Not by its start, which all trials share."""
    config = replace(CONFIG, head_learning_rate=1.0)
    task = task_of("llama")
    with METHODS["prompt"].attach(task.backbone, config.shape, task.encoded["train"].sequences) as trainable:
        start = task.evaluate("validation", task.objective(), trainable.joined).mean_loss
    for trial in sweep(task, config, NOWHERE, Counted(), (5.0, 50.0)).trials:
        assert [look.step for look in trial.curve] == [5]
        assert trial.validation.mean_loss == trial.curve[0].validation_loss > start


def test_a_rate_that_diverged_is_not_chosen_for_its_start() -> None:
    """The diverged trial falls back to its start, which scores better than where the other rate leads."""
    config = replace(CONFIG, head_learning_rate=1.0)
    found = sweep(task_of("llama"), config, NOWHERE, Counted(), (math.inf, 5.0))
    assert [trial.status for trial in found.trials] == ["diverged", "finished"]
    assert found.trials[0].validation.mean_loss < found.trials[1].validation.mean_loss
    assert found.best.config.learning_rate == 5.0


@pytest.mark.parametrize("rates", [(0.2,), ()])
def test_a_given_rate_tries_nothing(rates: tuple[float, ...]) -> None:
    progress = Counted()
    found = sweep(task_of("gpt2"), replace(CONFIG, learning_rate=0.7), NOWHERE, progress, rates)
    assert found.trials == ()
    assert found.best.config.learning_rate == (rates[0] if rates else 0.7)
    assert [steps for _, steps in progress.tasks] == [20]


@pytest.mark.parametrize("method", SOFT)
def test_the_methods_own_rates_are_in_units_of_its_start(method: str) -> None:
    task = task_of("llama")
    config = config_of(method, steps=4)
    with METHODS[method].attach(task.backbone, config.shape, task.encoded["train"].sequences) as trainable:
        expected = [rate * trainable.unit for rate in METHODS[method].rates]
    tried = [trial.config.learning_rate for trial in sweep(task, config, NOWHERE, Counted()).trials]
    assert tried == pytest.approx(expected, rel=0.05)
    assert all(rate == float(f"{rate:.2g}") for rate in tried)


@pytest.mark.parametrize(("steps", "rates"), [(20, (0.1, 0.2, 0.3)), (20, (0.1,)), (1, (0.1, 0.2)), (7, ())])
def test_the_plan_is_what_is_done(steps: int, rates: tuple[float, ...]) -> None:
    progress = Counted()
    config = replace(CONFIG, steps=steps)
    found = sweep(task_of("gpt2"), config, NOWHERE, progress, rates)
    assert sum(done for _, done in progress.tasks) == planned_steps(config, len(rates))
    assert sum(run.steps for run in (*found.trials, found.best)) == planned_steps(config, len(rates))


def test_a_repeated_sweep_takes_the_same_steps_of_progress(tmp_path: Path) -> None:
    first, second = Counted(), Counted()
    for progress in (first, second):
        sweep(task_of("gpt2"), CONFIG, RunStore(tmp_path), progress, (0.1, 0.2))
    assert first.tasks == second.tasks
    assert [done for _, done in first.tasks] == [5, 5, 20]
