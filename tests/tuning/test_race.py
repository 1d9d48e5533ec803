"""A race of lengths: one search, one early look at all, one full run."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_halving import Scripted

from planted import Counted, config_of, task_of
from promptreach.tuning.executor import InProcess
from promptreach.tuning.race import race
from promptreach.tuning.runs import RunConfig, RunStore
from promptreach.tuning.sweep import own_rates

CONFIGS = [config_of("prompt", tokens=tokens, steps=80, patience=9) for tokens in (1, 4, 8)]


class Lengths(Scripted):
    """The middle rate of the middle length is best, and of the lengths `best` at the race's step."""

    def __init__(self, best: int, after: int) -> None:
        super().__init__(lambda rate, step: abs(rate - own_rates(self.task, CONFIGS[1])[1]))
        self.best = best
        self.after = after

    def loss_of(self, config: RunConfig) -> float:
        """Past the race's step, the length `after` leads."""
        favourite = self.best if config.pause else self.after
        return super().loss_of(config) + abs(config.tokens - favourite)


@pytest.mark.parametrize(("best", "after"), [(1, 1), (4, 4), (8, 8), (8, 1), (1, 8)])
def test_the_length_that_leads_at_the_race_goes_on(best: int, after: int) -> None:
    executor = Lengths(best, after)
    found = race(executor, CONFIGS)
    rate = own_rates(executor.task, CONFIGS[1])[1]
    assert [sweep.best.config.tokens for sweep in found] == [1, 4, 8]
    assert [sweep.best.config.pause for sweep in found] == [0 if tokens == best else 20 for tokens in (1, 4, 8)]
    assert all(sweep.best.config.learning_rate == rate for sweep in found)
    assert [len(sweep.trials) for sweep in found] == [0, 3, 0]
    assert executor.asked[2:] == [[(rate, 20)] * 3, [(rate, 0)]]


def test_equal_lengths_go_to_the_shorter() -> None:
    found = race(Lengths(6, 6), CONFIGS)
    assert [sweep.best.config.pause for sweep in found] == [20, 0, 20]  # 4 and 8 are equally far from 6


def test_a_race_is_made_of_real_runs_and_resumes(tmp_path: Path) -> None:
    configs = [replace(config, steps=16) for config in CONFIGS]

    def once() -> list:
        return race(InProcess(task_of("bert"), RunStore(tmp_path), Counted()), configs)

    found = once()
    written = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/run.json")}
    assert sorted(sweep.best.steps for sweep in found) == [4, 4, 16]
    assert all(sweep.best.held_out is not None for sweep in found)
    whole = next(sweep.best for sweep in found if not sweep.best.config.pause)
    alone = InProcess(task_of("bert"), RunStore(None), Counted()).run([whole.config])[0]
    assert torch.equal(whole.state["embeddings"], alone.state["embeddings"])
    again = once()
    assert [sweep.best.seconds for sweep in again] == [sweep.best.seconds for sweep in found]
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/run.json")} == written
    # What was trained twice is counted once: the middle length's rungs are a part of its best run.
    assert found[1].steps == found[1].best.steps + sum(
        trial.steps for trial in found[1].trials if trial.config.learning_rate != found[1].best.config.learning_rate
    )
