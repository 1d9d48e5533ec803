"""The numbers of the control experiments: a planted prompt, other seeds, the floor of one layer.

Each says what a difference between two runs is worth: whether training finds what exists, what luck is worth, and
what no prompt could do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class PlantedNumbers:
    """The part of a planted prompt's gain that the usual training finds.

    Attributes:
        control, student, possible: the score in `unit` without a prompt, with the trained one, with the planted one.
        share: of the gain that is possible, what the student reaches.
    """

    unit: str
    tokens: int
    learning_rate: float
    steps: int
    control: float
    student: float
    possible: float
    share: float
    status: str


@dataclass(frozen=True)
class SeedNumbers:
    """The winners trained again with other seeds, on the same rows with the same settings.

    Attributes:
        seeds: the first is that of all other numbers.
        scores: by run, the accuracy or the loss on the rows judged, one a seed.
        worth: the largest difference between two seeds of one run: what a seed is worth here.
    """

    seeds: tuple[int, ...]
    scores: Mapping[str, Sequence[float]]
    worth: float


@dataclass(frozen=True)
class OneLayerNumbers:
    """What no prompt or prefix of any length can imitate of LoRA, in a model of one layer.

    Attributes:
        change: what LoRA changes of the heads' outputs where the answer is read, root mean square.
        floor: the least part of that which any slots leave undone, root mean square, proved for the captured numbers.
        share: the floor over the change.
        rows, queries: looked at; rows that share a query are one question to the oracle.
    """

    change: float
    floor: float
    share: float
    rows: int
    queries: int
