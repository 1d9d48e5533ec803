"""Prompts of several lengths for little more than the price of one.

The learning rate is searched at the middle length only. Then every length runs to the same early step at that rate, and
the one that leads farthest down goes on to the end. In full runs, three rates and three lengths cost 7/16 of one at the
middle length for the search and its own start, a quarter for each other length and three quarters for the winner.
"""

from collections.abc import Sequence
from dataclasses import replace

from promptreach.tuning.executor import Executor
from promptreach.tuning.halving import best_of
from promptreach.tuning.runs import RunConfig
from promptreach.tuning.sweep import Sweep, searched

RACE_SHARE = 0.25
"""Of a full run's steps, those that every length takes."""


def race(executor: Executor, configs: Sequence[RunConfig]) -> list[Sweep]:
    """One sweep for each of `configs`, of which one is trained to the end.

    Args:
        executor: trains the runs.
        configs: full runs that differ in length only, ascending; their learning rate is chosen here.

    Returns:
        In the order of `configs`. The trials of the search stand with the middle length. A length that was left behind
        has as its `best` a run that paused at `RACE_SHARE` of the steps, in the state in which it stopped there, scored
        on the held-out rows like a full run: at that step all lengths compare like with like. Ties go to the shorter
        prompt.
    """
    middle = len(configs) // 2
    search = searched(executor, configs[middle])
    rate = search.best.learning_rate
    entered = [replace(config, learning_rate=rate) for config in configs]
    at = max(1, round(RACE_SHARE * entered[0].steps))
    runs = executor.run([replace(config, pause=at) for config in entered])
    winner = runs.index(best_of(runs))
    runs[winner] = executor.run([entered[winner]])[0]
    return [Sweep(search.trials if index == middle else (), run) for index, run in enumerate(runs)]
