"""Successive halving: who is dropped when, that survivors go on, and that nothing is done twice."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers.scripted import CONFIG, Scripted, outcomes
from helpers.tasks import Counted, task_of
from promptreach.training.engines.executor import InProcess
from promptreach.training.runs import Run, RunConfig, RunStore
from promptreach.training.search.halving import Halving, by_metric, halving, halving_steps, has_left, rung_steps
from promptreach.training.task.objective import Outcomes
from promptreach.training.trainer import WARM_UP


def candidates(*rates: float) -> list[RunConfig]:
    return [replace(CONFIG, learning_rate=rate) for rate in map(float, rates)]


def test_the_worse_half_is_dropped_at_every_rung() -> None:
    executor = Scripted(lambda rate, step: abs(rate - 4.0))
    found = halving(executor, candidates(1, 2, 3, 4, 5))
    assert executor.asked == [
        [(1, 10), (2, 10), (3, 10), (4, 10), (5, 10)],
        [(3, 20), (4, 20), (5, 20)],
        [(3, 40), (4, 40)],
    ]
    assert found.best == replace(CONFIG, learning_rate=4.0)
    assert [trial.steps for trial in found.trials] == [10, 10, 40, 40, 20]


def test_a_candidate_that_falls_back_later_is_dropped_later() -> None:
    executor = Scripted(lambda rate, step: rate / 10 if step > 10 else 1 / rate)
    found = halving(executor, candidates(1, 2, 3))
    assert executor.asked == [[(1, 10), (2, 10), (3, 10)], [(2, 20), (3, 20)], [(2, 40)]]
    assert found.best.learning_rate == 2


def test_a_dropped_candidate_comes_back_when_the_others_rise_above_it() -> None:
    """Rates 2 and 3 lead after ten steps and rise; 1 fell less and goes on falling."""
    executor = Scripted(lambda rate, step: {1: 5.0 - step / 100, 2: step / 2 - 1, 3: step / 2 - 2}[int(rate)])
    found = halving(executor, candidates(1, 2, 3))
    assert executor.asked == [[(1, 10), (2, 10), (3, 10)], [(2, 20), (3, 20)], [(1, 20)], [(1, 40)]]
    assert found.best.learning_rate == 1
    assert [trial.steps for trial in found.trials] == [40, 20, 20]


def test_one_that_came_back_is_judged_at_the_same_step() -> None:
    """Rate 9 stopped below where the survivors rose to, and with their steps stands above them."""
    executor = Scripted(lambda rate, step: 4.5 if (rate, step) == (9, 10) else rate * min(step, 20) / 10)
    found = halving(executor, candidates(2.4, 2.3, 9.0))
    assert executor.asked[2:] == [[(9, 20)], [(2.3, 40)]]
    assert found.best.learning_rate == 2.3


class Rows(Scripted):
    """As `Scripted`, each loss on two validation rows that are as far from it as `apart`."""

    apart = 0.0

    def _one(self, config: RunConfig) -> Run:
        run, loss = super()._one(config), self.loss_of(config)
        return replace(run, validation=outcomes(loss - self.apart, loss + self.apart))


def test_where_the_best_stands_still_the_next_smaller_rate_is_judged_with_it() -> None:
    """Rate 3 fell fast to 0.4 and stands there; 2 is slower, and far below it at half of the steps; 1 is not asked."""
    losses = {
        1: {10: 5.6},
        2: {10: 1.3, 20: 1.1, 40: 0.3},
        3: {10: 2.9, 20: 0.4, 40: 0.43},
        4: {10: 9.0},
    }
    executor = Rows(lambda rate, step: losses[int(rate)][step])
    found = halving(executor, candidates(1, 2, 3, 4))
    assert executor.asked[1:] == [[(2, 20), (3, 20)], [(3, 40)], [(2, 40)]]
    assert found.best.learning_rate == 2


def test_smaller_rates_are_asked_for_as_long_as_the_best_stands_still() -> None:
    """All rise between a quarter and half of the steps, and each smaller rate stands lower; below 1 is none."""
    executor = Rows(lambda rate, step: rate + 7 if step == 40 else 10 - rate)
    found = halving(executor, candidates(1, 3, 2))
    assert executor.asked[2:] == [[(3, 40)], [(2, 40)], [(1, 40)]]
    assert found.best.learning_rate == 1


def test_one_that_still_falls_goes_on_without_a_second_opinion() -> None:
    executor = Rows(lambda rate, step: 1 / rate / step)
    found = halving(executor, candidates(1, 2, 3))
    assert executor.asked[2:] == [[(3, 40)]]
    assert found.best.learning_rate == 3


@pytest.mark.parametrize(("rates", "best"), [((1, 2, 3, 4), 3), ((2, 1, 4), 4), ((1, 2), 1), ((1,), 1)])
def test_a_diverged_candidate_is_chosen_only_when_all_diverged(rates: tuple[float, ...], best: float) -> None:
    """The first two of the rates diverge, and look better than any other where they fell back to."""
    executor = Scripted(lambda rate, step: math.nan if rate in (1, 2) else 5.0)
    found = halving(executor, candidates(*rates))
    assert found.best.learning_rate == best
    assert [trial.status for trial in found.trials if trial.config.learning_rate in (1, 2)].count("finished") == 0


def test_more_candidates_join_at_the_first_rung() -> None:
    executor = Scripted(lambda rate, step: 1 / rate)
    seen: list[int] = []

    def more(runs: Sequence[Run]) -> RunConfig | None:
        seen.append(len(runs))
        return None if len(runs) == 4 else replace(CONFIG, learning_rate=10.0 * len(runs))

    found = halving(executor, candidates(1, 2), more)
    assert seen == [2, 3, 4, 4]
    assert executor.asked == [[(1, 10), (2, 10)], [(20, 10)], [(30, 10)], [(20, 20), (30, 20)], [(30, 40)]]
    assert found.best.learning_rate == 30


def test_a_candidate_that_joins_last_takes_as_many_steps_as_the_leader() -> None:
    """Rate 3 leads only after twenty steps; what lies beyond it is asked for then, until that is no better."""
    executor = Scripted(lambda rate, step: abs(rate - 3) if step == 10 else abs(rate - 4.4))
    asked = iter([None, 4.0, 5.0, None])
    found = halving(
        executor,
        candidates(1, 2, 3),
        lambda runs: None if (rate := next(asked)) is None else replace(CONFIG, learning_rate=rate),
    )
    assert executor.asked == [[(1, 10), (2, 10), (3, 10)], [(2, 20), (3, 20)], [(4, 20)], [(5, 20)], [(4, 40)]]
    assert found.best.learning_rate == 4
    assert len(found.trials) == 5


@given(steps=st.integers(1, 2000), count=st.integers(1, 20))
def test_what_a_search_costs_is_known_before(steps: int, count: int) -> None:
    executor = Scripted(lambda rate, step: rate)
    halving(executor, [replace(CONFIG, steps=steps, learning_rate=float(i)) for i in range(count)])
    assert sum(pause for asked in executor.asked for _, pause in asked) == halving_steps(steps, count)
    assert all(1 <= pause <= steps for asked in executor.asked for _, pause in asked)


def test_no_rate_is_judged_inside_its_warm_up() -> None:
    """Only a run of one step has none behind it."""
    assert all(rung_steps(steps, 0) > WARM_UP * steps for steps in range(2, 2000))


class Apart(Rows):
    apart = 0.5


def test_nobody_is_dropped_while_the_leader_is_within_noise_of_the_start() -> None:
    """The middle rate sets off last: after ten steps it is behind, and all three are about where they began."""

    def loss(rate: float, step: int) -> float:
        return 1.0 - (0.9 if rate == 2 else 0.1) * step / 40 if step > 10 else 1.0 + 0.01 * (rate == 2)

    for start, best in ((outcomes(1.5, 0.5), 2), (None, 1)):
        executor = Apart(loss)
        found = halving(executor, candidates(1, 2, 3), start=start)
        assert executor.asked[1] == ([(1, 20), (2, 20), (3, 20)] if start else [(1, 20), (3, 20)])
        assert found.best.learning_rate == best


def test_where_nothing_ever_leaves_its_start_half_of_the_steps_decide() -> None:
    executor = Apart(lambda rate, step: 1.0)
    halving(executor, candidates(1, 2, 3), start=outcomes(1.5, 0.5))
    assert [len(asked) for asked in executor.asked] == [3, 3, 3]
    assert [asked[0][1] for asked in executor.asked] == [10, 20, 40]


def test_left_means_better_than_noise() -> None:
    start = outcomes(1.0, 2.0, 3.0)
    assert has_left(outcomes(0.5, 1.4, 2.6), start)
    assert not has_left(outcomes(1.5, 1.0, 3.0), start)
    assert not has_left(outcomes(2.0, 3.0, 4.0), start)


def test_rungs_double_and_end_with_the_run() -> None:
    assert [rung_steps(400, rung) for rung in range(4)] == [50, 100, 200, 400]
    assert [rung_steps(1, rung) for rung in range(3)] == [1, 1, 1]


def search(folder: Path | None) -> tuple[Halving, Run]:
    executor = InProcess(task_of("gpt2"), RunStore(folder), Counted())
    found = halving(executor, [replace(CONFIG, learning_rate=rate, steps=48) for rate in (1e-5, 0.3, 0.1, 50.0)])
    return found, executor.run([found.best])[0]


def test_the_survivor_is_the_full_run(tmp_path: Path) -> None:
    """Bit for bit, though it was trained in three stretches; and a second search finds all of it."""
    found, best = search(tmp_path)
    undisturbed = InProcess(task_of("gpt2"), RunStore(None), Counted()).run([found.best])[0]
    assert torch.equal(best.state["embeddings"], undisturbed.state["embeddings"])
    assert best.curve[1:] == undisturbed.curve[1:]
    written = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/run.json")}
    assert len(written) >= 4 + 2 + 1 + 1
    assert any(trial.steps == 24 for trial in found.trials)
    again, _ = search(tmp_path)
    assert again.best == found.best
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/run.json")} == written


def test_without_a_folder_survivors_go_on_as_well() -> None:
    found, best = search(None)
    assert [trial.steps for trial in found.trials].count(6) >= 1
    assert (best.steps, found.best.pause) == (48, 0)
    taken: list[int] = []

    class Watched(RunStore):
        def pause(self, name: str, tensors: dict[str, torch.Tensor], record: dict[str, object]) -> None:
            taken.append(len(record["losses"]) if isinstance(record["losses"], list) else -1)
            super().pause(name, tensors, record)

    executor = InProcess(task_of("gpt2"), Watched(None), Counted())
    halving(executor, [replace(CONFIG, learning_rate=rate, steps=48) for rate in (0.3, 0.1, 0.2)])
    # Training losses since the last look, one of which falls on each rung but the first.
    assert taken[:3] == [6, 6, 6]
    assert len(taken) >= 6
    assert set(taken[3:]) == {0}


def test_runs_are_ordered_by_the_metric_that_decides_and_then_by_their_loss() -> None:
    true = torch.tensor([0.0, 0.0, 0.0, 1.0])

    def run(loss: float, given: list[float], status: str = "finished") -> Run:
        told = torch.tensor(given)
        seen = Outcomes(torch.full((4,), loss), torch.ones(4), (told == true).float(), given=told, true=true)
        return Run(candidates(1)[0], status, 1, 1.0, 1, 0.0, (), seen, None, {}, {})

    lazy, finder = run(0.1, [0.0] * 4), run(0.9, [0.0, 0.0, 1.0, 1.0])
    sharper, lost = run(0.8, [0.0, 0.0, 1.0, 1.0]), run(0.0, true.tolist(), "diverged")
    runs = [lazy, finder, sharper, lost]
    for metric, positive, order in (
        ("mcc", 1, [sharper, finder, lazy, lost]),
        ("f1", 1, [sharper, finder, lazy, lost]),
        ("f1", 0, [lazy, sharper, finder, lost]),
        ("accuracy", 1, [lazy, sharper, finder, lost]),
        ("loss", 1, [lazy, sharper, finder, lost]),
    ):
        assert sorted(runs, key=by_metric(metric, positive)) == order  # type: ignore[arg-type]
