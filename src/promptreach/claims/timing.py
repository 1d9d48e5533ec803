"""Wall time of a call, for claims about speed: ratios within one run are what they may speak of."""

import statistics
import time
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")


def timed(call: Callable[[], Value], repeats: int) -> tuple[float, Value]:
    """The median of the seconds that `call` takes, and what it returned last.

    Args:
        call: deterministic.
        repeats: at least 1.
    """
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        value = call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), value
