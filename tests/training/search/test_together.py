"""Searches that go on together: each gets the runs that it would get alone, and what they ask for is asked at once."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from helpers.scripted import CONFIG, Scripted
from promptreach.training.runs import RunConfig
from promptreach.training.search.halving import Halving, halved, halving
from promptreach.training.search.together import Search, alone, together


def candidates(*rates: float) -> list[RunConfig]:
    return [replace(CONFIG, learning_rate=rate) for rate in rates]


SEARCHES = ((1.0, 2.0, 3.0), (4.0, 5.0), (6.0,), (0.5, 1.5, 2.5, 7.0, 9.0))


def test_together_they_find_what_each_finds_alone() -> None:
    executor = Scripted(lambda rate, step: abs(rate - 2.0) + step / 100)
    found = together(executor, [halved(candidates(*rates)) for rates in SEARCHES])
    for rates, one in zip(SEARCHES, found, strict=True):
        other = halving(executor, candidates(*rates))
        assert one.best == other.best
        assert [run.config for run in one.trials] == [run.config for run in other.trials]
        assert [run.validation.mean_loss for run in one.trials] == [run.validation.mean_loss for run in other.trials]


def test_all_that_searches_ask_for_is_asked_at_once() -> None:
    """Eleven first rungs in one call; what the searches that still go on ask for next in one more each."""
    executor = Scripted(lambda rate, step: rate)
    together(executor, [halved(candidates(*rates)) for rates in SEARCHES])
    assert [len(asked) for asked in executor.asked] == [11, 2 + 1 + 3, 1 + 2]
    assert {step for _, step in executor.asked[0]} == {10}


def test_a_search_that_asks_for_nothing_is_over_at_once() -> None:
    def nothing() -> Search[str]:
        return "found"
        yield []

    executor = Scripted(lambda rate, step: rate)
    assert together(executor, [nothing(), nothing()]) == ["found", "found"]
    assert alone(executor, nothing()) == "found"
    assert together(executor, []) == []
    assert executor.asked == []


def test_runs_come_back_in_the_order_asked_for() -> None:
    seen: list[list[float]] = []

    def watching(*rates: float) -> Search[None]:
        for _ in range(2):
            runs = yield candidates(*rates)
            seen.append([run.config.learning_rate for run in runs])

    together(Scripted(lambda rate, step: rate), [watching(1.0, 2.0), watching(3.0), watching(4.0, 5.0)])
    assert seen == [[1.0, 2.0], [3.0], [4.0, 5.0]] * 2


def test_a_fault_of_the_executor_ends_all_of_them() -> None:
    class Broken(Scripted):
        def run(self, configs: Sequence[RunConfig]) -> list:
            raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        together(Broken(lambda rate, step: rate), [halved(candidates(1.0)), halved(candidates(2.0))])


def test_a_halving_is_a_search_of_its_own() -> None:
    found: Halving = alone(Scripted(lambda rate, step: rate), halved(candidates(3.0, 1.0)))
    assert found.best.learning_rate == 1.0
