"""Several searches that go on at the same time: what they ask for next is trained in one call of the executor.

A search is a generator. It yields the settings of the runs that it wants next, is sent these runs, finished, and
returns what it found. What one search asks for never depends on another, so that the same runs are made whether
searches go on one after another or together; workers have all their runs to choose from, the first rungs of every
search to begin with.
"""

from collections.abc import Generator, Sequence
from itertools import islice
from typing import TypeVar

from promptreach.training.engines.executor import Executor
from promptreach.training.runs import Run, RunConfig

Found = TypeVar("Found")
Search = Generator[Sequence[RunConfig], list[Run], Found]
"""Asks for runs, is sent them in the order asked for, and returns what it found."""


def together(executor: Executor, searches: Sequence[Search[Found]]) -> list[Found]:
    """What each of `searches` found, in their order.

    Guarantee: every search gets the runs that it would get alone.

    Args:
        executor: trains the runs; called once for all that the searches ask for at the same time.
        searches: fresh ones, that were not asked yet.
    """
    asked: dict[int, Sequence[RunConfig]] = {}
    found: dict[int, Found] = {}

    def go_on(index: int, runs: list[Run] | None) -> None:
        """Send a search its runs, and keep what it asks for next or what it found."""
        asked.pop(index, None)
        try:
            # A generator that has not begun takes nothing but None.
            asked[index] = next(searches[index]) if runs is None else searches[index].send(runs)
        except StopIteration as end:
            found[index] = end.value

    for index in range(len(searches)):
        go_on(index, None)
    while asked:
        now = dict(asked)
        runs = iter(executor.run([config for configs in now.values() for config in configs]))
        for index, configs in now.items():
            go_on(index, list(islice(runs, len(configs))))
    return [found[index] for index in range(len(searches))]


def alone(executor: Executor, search: Search[Found]) -> Found:
    """What one search found."""
    return together(executor, [search])[0]
