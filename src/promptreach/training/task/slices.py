"""Batches cut into slices that fit into memory; what they give is what the whole batch gives, up to float rounding.

How many there are is asked for, or found out: when memory runs out, work is done again in twice as many slices, and
stays at that. It decides no number, so it is no part of a run's settings.
"""

import gc
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

from promptreach.memory import is_shortage

Result = TypeVar("Result")


@dataclass
class Slices:
    """The number of slices that a batch is cut into.

    Attributes:
        count: for training steps; 1 leaves batches whole.
        looks: for passes without gradients, which take less.
    """

    count: int = 1
    looks: int = 1

    def step(self, rows: int, work: Callable[[int], Result]) -> Result:
        """The result of `work`, which is told how many slices to make of a batch of so many rows.

        Raises:
            MemoryError, RuntimeError: where memory is short for a single row too.
        """
        while True:
            try:
                return work(self.count)
            except Exception as error:
                if not is_shortage(error) or self.count >= rows:
                    raise
            # Here the error is gone, and with it the tensors that its traceback held.
            self.count = min(2 * self.count, rows)
            _give_back()

    def look(self, rows: Sequence[int], work: Callable[[list[int]], Result]) -> list[tuple[list[int], Result]]:
        """The results of `work` on slices of `rows`, with the rows of each; as `step` otherwise."""
        while True:
            try:
                return [(part, work(part)) for part in cut(rows, self.looks)]
            except Exception as error:
                if not is_shortage(error) or self.looks >= len(rows):
                    raise
            self.looks = min(2 * self.looks, len(rows))
            _give_back()


def cut(rows: Sequence[int], count: int) -> list[list[int]]:
    """The rows in at most `count` slices, in order, none empty, whose sizes differ by at most one."""
    count = max(1, min(count, len(rows)))
    ends = [len(rows) * index // count for index in range(count + 1)]
    return [list(rows[start:end]) for start, end in itertools.pairwise(ends)]


def _give_back() -> None:
    """Hand memory that nothing uses any more back to the device."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
