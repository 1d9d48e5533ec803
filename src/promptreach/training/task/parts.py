"""The three parts of a task: as the user divided the rows, or divided here."""

from collections.abc import Mapping
from dataclasses import replace

from promptreach.data import TaskData, train_test_split
from promptreach.errors import DataError, Fault, raise_if_any

PARTS = ("train", "validation", "held_out")
_WORDS = {"train": "training", "held_out": "test"}
HELD_OUT, VALIDATION = 0.4, 1 / 3
"""The share of the rows that is not trained on, and of that the share that choices see: it only ranks runs, while
held-out rows carry the conclusions."""


def divided(data: TaskData, seed: int) -> dict[str, TaskData]:
    """The rows of each part, before any limit on their numbers.

    A part that the user gave is taken whole and nothing else is put into it. Where a test part or a validation part is
    missing, it is drawn from the training rows, as large a share of them as it would be of rows that nobody divided.
    Identical inputs never stand on both sides of a division that is made here.

    Args:
        data: with its own parts, or none.
        seed: for what is divided here.

    Raises:
        DataError: when the training rows are too few to give away a part, or all rows of a part weigh 0.
    """
    found = _own_parts(data, seed) if data.parts else _drawn_parts(data, seed)
    refuse_weightless(found)
    return found


def refuse_weightless(parts: Mapping[str, TaskData]) -> None:
    """Refuse parts in which no row counts.

    Raises:
        DataError: naming each of them.
    """
    faults = []
    for name, part in parts.items():
        if part.weights and not any(part.weights):
            column = part.columns.get("weight")
            where = f"{part.source}, {_WORDS.get(name, name)} part, " + (f"column {column!r}" if column else "weights")
            seen = f"the weight 0 in all of its {len(part):,} rows"
            remedy = "Give more rows a weight, or drop those that weigh 0."
            faults.append(Fault(where, seen, "rows that count in every part", remedy))
    raise_if_any(faults, DataError)


def _drawn_parts(data: TaskData, seed: int) -> dict[str, TaskData]:
    """The three parts of rows that nobody divided."""
    train, rest = train_test_split(data, HELD_OUT, seed)
    held_out, validation = train_test_split(rest, VALIDATION, seed + 1)
    return {"train": train, "validation": validation, "held_out": held_out}


def _own_parts(data: TaskData, seed: int) -> dict[str, TaskData]:
    """The parts that the user gave, and those that are drawn from the training rows where they are missing."""
    found = {name: _rows_of(data, name) for name in PARTS}
    shares = {"validation": HELD_OUT * VALIDATION, "held_out": HELD_OUT * (1 - VALIDATION)}
    for offset, name in enumerate(("held_out", "validation")):
        if len(found[name]):
            continue
        if len(set(found["train"].inputs)) < 4:
            seen = f"{len(set(found['train'].inputs))} different inputs to train on, and no {name} part"
            remedy = "Add rows to the training part, or give that part."
            raise DataError(Fault(data.source, seen, "at least 4, to draw that part from", remedy))
        found["train"], found[name] = train_test_split(found["train"], shares[name], seed + offset)
    return found


def shared_rows(contents: Mapping[str, list[tuple[int, ...]]]) -> dict[tuple[str, str], int]:
    """How many rows of the later of two parts stand in the earlier one as well, to the model; zeros are left out.

    Args:
        contents: the token ids that the model reads of each row, by part.
    """
    names = [name for name in PARTS if name in contents]
    found = {}
    for place, later in enumerate(names):
        for earlier in names[:place]:
            known = set(contents[earlier])
            if count := sum(row in known for row in contents[later]):
                found[earlier, later] = count
    return found


def _rows_of(data: TaskData, name: str) -> TaskData:
    rows = data.take([index for index, part in enumerate(data.parts) if part == name])
    return replace(rows, source=data.part_sources.get(name, data.source))
