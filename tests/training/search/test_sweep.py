"""Choosing a learning rate: where the best trial led decides, and a grid grows where its edge is best."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from helpers.scripted import Scripted, outcomes
from helpers.tasks import SOFT, Counted, config_of, task_of
from promptreach.training.engines.executor import InProcess
from promptreach.training.methods.methods import METHODS
from promptreach.training.runs import Run, RunConfig, RunStore
from promptreach.training.search import halving
from promptreach.training.search.sweep import MOST_EXTENSIONS, Sweep, own_rates, planned_steps, sweep

CONFIG = config_of("prompt", steps=48, patience=9)


@pytest.fixture
def all_leave_their_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows here teach nothing, so that a search would keep all candidates; what it costs otherwise is asked."""
    monkeypatch.setattr(halving, "has_left", lambda now, start: True)


def swept(config: RunConfig = CONFIG, family: str = "gpt2", **asked: object) -> Sweep:
    return sweep(InProcess(task_of(family), RunStore(None), Counted()), config, **asked)


@pytest.mark.parametrize("rates", [(1e-5, 0.3, 50.0), (50.0, 0.3, 1e-5), (1e-5, 1e-2)])
def test_where_the_best_trial_led_decides(rates: tuple[float, ...]) -> None:
    found = swept(rates=rates)
    assert tuple(trial.config.learning_rate for trial in found.trials) == rates
    longest = max(trial.steps for trial in found.trials)
    losses = {
        trial.config.learning_rate: trial.validation.mean_loss for trial in found.trials if trial.steps == longest
    }
    assert len(losses) >= 2
    assert found.best.config == replace(CONFIG, learning_rate=min(losses, key=losses.__getitem__))
    assert found.best.held_out is not None


@pytest.mark.usefixtures("all_leave_their_start")
def test_trials_are_short_and_see_no_held_out_row() -> None:
    for trial, rate in zip(swept(rates=(0.1, 0.2)).trials, (0.1, 0.2), strict=True):
        assert trial.config == replace(CONFIG, learning_rate=rate, pause=trial.steps, score_held_out=False)
        assert trial.steps in (6, 12)
        assert trial.held_out is None


@pytest.mark.usefixtures("all_leave_their_start")
def test_a_trial_is_judged_by_where_it_led() -> None:
    """Not by its start, which all trials share."""
    config = replace(CONFIG, head_learning_rate=1.0)
    task = task_of("llama")
    with METHODS["prompt"].attach(task.backbone, config, task.encoded["train"].sequences) as trainable:
        start = task.evaluate("validation", task.objective(), trainable.joined).mean_loss
    for trial in swept(config, "llama", rates=(5.0, 50.0)).trials:
        assert [look.step for look in trial.curve] == [trial.steps]
        assert trial.validation.mean_loss == trial.curve[0].validation_loss > start


def test_a_rate_that_diverged_is_not_chosen_for_its_start() -> None:
    """The diverged trial falls back to its start, which scores better than where the other rate leads."""
    config = replace(CONFIG, head_learning_rate=1.0)
    found = swept(config, "llama", rates=(math.inf, 5.0))
    assert [trial.status for trial in found.trials] == ["diverged", "finished"]
    assert found.trials[0].validation.mean_loss < found.trials[1].validation.mean_loss
    assert found.best.config.learning_rate == 5.0


def test_a_search_in_which_all_diverge_is_a_result() -> None:
    found = swept(rates=(math.inf, math.inf))
    assert found.best.status == "diverged"
    assert found.best.held_out is not None
    assert all(tensor.isfinite().all() for tensor in found.best.state.values())


@pytest.mark.parametrize("rates", [(0.2,), ()])
def test_a_given_rate_tries_nothing(rates: tuple[float, ...]) -> None:
    progress = Counted()
    executor = InProcess(task_of("gpt2"), RunStore(None), progress)
    found = sweep(executor, replace(CONFIG, learning_rate=0.7), rates)
    assert found.trials == ()
    assert found.best.config.learning_rate == (rates[0] if rates else 0.7)
    assert [steps for _, steps in progress.tasks] == [48]


@pytest.mark.parametrize("method", SOFT)
def test_the_methods_own_rates_are_in_units_of_its_start(method: str) -> None:
    task = task_of("llama")
    config = config_of(method, steps=4)
    with METHODS[method].attach(task.backbone, config, task.encoded["train"].sequences) as trainable:
        expected = [rate * trainable.rate_scale for rate in METHODS[method].rates]
    rates = own_rates(task, config)
    assert rates == pytest.approx(expected, rel=0.15)
    assert all(rate == float(f"{rate:.2g}") for rate in rates)
    tried = [trial.config.learning_rate for trial in swept(config, "llama").trials]
    assert tried[:3] == rates
    assert len(tried) <= 3 + MOST_EXTENSIONS


def scripted(target: float, **asked: object) -> list[float]:
    """The rates that a sweep tries in units of the start when the loss grows with the distance from `target`."""
    config = config_of("prompt", steps=80)
    task = task_of("gpt2")
    with METHODS["prompt"].attach(task.backbone, config, task.encoded["train"].sequences) as trainable:
        unit = trainable.rate_scale
    executor = Scripted(lambda rate, step: abs(math.log(rate / unit / target)))
    found = sweep(executor, config, **asked)
    assert found.best.config == replace(config, learning_rate=found.best.config.learning_rate)
    return [trial.config.learning_rate / unit for trial in found.trials]


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (1.0, [0.3, 1.0, 3.0]),
        (10.0, [0.3, 1.0, 3.0, 9.0, 27.0]),
        (5.0, [0.3, 1.0, 3.0, 9.0]),
        (0.2, [0.3, 1.0, 3.0, 0.09]),
        (1e-9, [0.3, 1.0, 3.0, 0.09, 0.027, 0.0081, 0.00243, 0.00058, 0.00016]),
        (1e9, [0.3, 1.0, 3.0, 9.0, 27.0, 81.0, 243.0, 583.0, 1602.0]),
    ],
)
def test_the_grid_grows_while_its_edge_is_best(target: float, expected: list[float]) -> None:
    assert scripted(target) == pytest.approx(expected, rel=0.15)


def test_the_grid_does_not_grow_downwards_for_a_hair() -> None:
    """Every smaller rate is a little better, on rows that differ more than that in what it does for them."""
    config, sides = config_of("prompt", steps=80), (5.0, -3.0) * 4

    class Hair(Scripted):
        def _one(self, config: RunConfig) -> Run:
            run, lost = super()._one(config), self.loss_of(config)
            return replace(run, validation=outcomes(*(lost * side for side in sides)))

    for executor, most in ((Hair, 3), (Scripted, 3 + MOST_EXTENSIONS)):
        found = sweep(executor(lambda rate, step: rate / (1 + step)), config)
        assert len(found.trials) == most
        assert found.best.config.learning_rate == min(trial.config.learning_rate for trial in found.trials)


def test_a_given_grid_stays_as_it_is() -> None:
    unit_free = scripted(1e9, rates=(0.1, 0.2))
    assert len(unit_free) == 2


@pytest.mark.usefixtures("all_leave_their_start")
@pytest.mark.parametrize(("steps", "rates"), [(48, (0.1, 0.2, 0.3)), (48, (0.1,)), (1, (0.1, 0.2)), (7, ())])
def test_the_plan_is_what_is_done(steps: int, rates: tuple[float, ...]) -> None:
    progress = Counted()
    config = replace(CONFIG, steps=steps, learning_rate=0.1)
    found = sweep(InProcess(task_of("gpt2"), RunStore(None), progress), config, rates)
    assert sum(done for _, done in progress.tasks) == planned_steps(config, len(rates))
    assert found.steps == found.best.steps + sum(
        trial.steps for trial in found.trials if trial.config.learning_rate != found.best.config.learning_rate
    )
    assert found.seconds > 0


@pytest.mark.usefixtures("all_leave_their_start")
def test_a_search_costs_less_than_trials_that_are_thrown_away() -> None:
    """An eighth for three, a quarter for two of them, the rest for one."""
    found = swept(rates=(0.1, 0.2, 0.3))
    assert found.steps == 48 + 6 + 12


@pytest.mark.usefixtures("all_leave_their_start")
def test_a_repeated_sweep_finds_everything(tmp_path: Path) -> None:
    first, second = Counted(), Counted()
    results = [
        sweep(InProcess(task_of("gpt2"), RunStore(tmp_path), progress), CONFIG, (0.1, 0.2))
        for progress in (first, second)
    ]
    assert first.tasks == second.tasks
    assert [done for _, done in first.tasks] == [6, 6, 12, 48]
    one, other = (found.best for found in results)
    assert torch.equal(one.state["embeddings"], other.state["embeddings"])
    assert one.seconds == other.seconds
