"""The faults of a source, gathered, and those that only whole columns show: parts, weights, missing labels."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from promptreach.errors import DataError, Fault
from promptreach.rows._cells import is_gap
from promptreach.rows._table import Row, shorten
from promptreach.rows.examples import Example
from promptreach.rows.parts import KNOWN_NAMES, part_of

SHOWN_FAULTS = 20
"""The number of faults of one source that are listed; the rest are counted."""
LEAST_WEIGHT, MOST_WEIGHT = 1e-30, 1e30
"""The range of weights that are not 0: their sums, and the shares of these, are told apart in single precision."""
Value = TypeVar("Value")


@dataclass
class Faults:
    """The first faults found, and how many there were."""

    shown: list[Fault] = field(default_factory=list)
    count: int = 0

    def add(self, *faults: Fault) -> None:
        """Add these."""
        self.count += len(faults)
        self.shown += faults[: SHOWN_FAULTS - len(self.shown)]

    def add_all(self, other: "Faults") -> None:
        """Add those that were gathered apart."""
        shown, rest = other.shown, other.count - len(other.shown)
        self.add(*shown)
        self.count += rest

    def raise_if_any(self, name: str) -> None:
        """Raise a `DataError` with all of them."""
        rest = self.count - len(self.shown)
        more = [Fault(name, f"{rest:,} more faults", "none", "Mend those above first.")] if rest else []
        if self.count:
            raise DataError(self.shown + more)

    def collect(self, step: Callable[[], Value]) -> Value | None:
        """The result of `step`, or None with its faults added."""
        try:
            return step()
        except DataError as error:
            self.add(*error.faults)
            return None


@dataclass
class ColumnChecks:
    """The columns of one source, looked at row by row.

    Attributes:
        part: the part of all rows, or of the row that was looked at last.
        split_wished: whether the caller named the column of parts; otherwise one of unknown values is no such column,
            unless others of its values name the training part and another one.
        may_lack_labels: whether the source is left out when none of its rows has a label.
    """

    part: str
    split_wished: bool
    may_lack_labels: bool
    unknown: dict[str, int] = field(default_factory=dict)
    named: set[str] = field(default_factory=set)  # the parts that its column names
    weight: float = 1.0  # of the row that was looked at last
    weights: set[float] = field(default_factory=set)  # two different ones at most, which is all that matters
    rows: int = 0
    gaps: Faults = field(default_factory=Faults)

    def look(
        self,
        row: Row,
        values: Mapping[str, object],
        example: Example | Sequence[Fault],
        where: Callable[[str], str],
        faults: Faults,
    ) -> None:
        """Look at one row: its example, or its faults."""
        self.rows += 1
        if "split" in values:
            self.part = part_of(values["split"]) or ""
            if self.part:
                self.named.add(self.part)
            else:
                self.unknown.setdefault(shorten(values["split"]), row.number)
        if "weight" in values:
            self._weigh(values["weight"], where("weight"), faults)
        if isinstance(example, Example):
            return
        label = values.get("label", "")
        is_none = is_gap(label) or (isinstance(label, str) and not label.strip() and "label" in values)
        if len(example) == 1 and is_none:
            self.gaps.add(*example)
        else:
            faults.add(*example)

    def _weigh(self, value: object, where: str, faults: Faults) -> None:
        try:
            weight = float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError):
            weight = math.nan
        if weight != 0 and not LEAST_WEIGHT <= weight <= MOST_WEIGHT:
            seen = "no weight" if is_gap(value) else f"the weight {shorten(value)}"
            expected = f"a number that is not negative: 0, or from {LEAST_WEIGHT:g} to {MOST_WEIGHT:g}"
            faults.add(Fault(where, seen, expected, "Mend it, or drop the column."))
            return
        self.weight = weight
        if len(self.weights) < 2:
            self.weights.add(weight)

    def finish(self, name: str, columns: Mapping[str, str], told: list[str], faults: Faults) -> tuple[bool, set[str]]:
        """Add what the whole columns show.

        Returns:
            whether the source is to be left out, and the roles whose columns play no part.
        """
        idle = set()
        if "weight" in columns and len(self.weights) < 2:
            idle.add("weight")
            if self.weights == {0.0}:
                where = f"{name}, column {shorten(columns['weight'])}"
                faults.add(Fault(where, "the weight 0 in every row", "rows that count", "Mend it, or drop the column."))
        names_parts = "train" in self.named and len(self.named) > 1
        if self.unknown and (self.split_wished or names_parts):
            listed = ", ".join(f"{value} (row {row})" for value, row in list(self.unknown.items())[:5])
            remedy = f"Known are {KNOWN_NAMES}. Rename the value, or drop the rows."
            remedy += "" if self.split_wished else " A column of something else needs another name."
            where = f"{name}, column {shorten(columns['split'])}"
            faults.add(Fault(where, f"values that name no part: {listed}", "the name of a part", remedy))
        elif self.unknown:
            idle.add("split")
        if self.gaps.count and self.gaps.count == self.rows and self.part not in ("", "train"):
            if self.may_lack_labels:
                told.append(f"No row of {name} has a label, so it was not used.")
                return True, idle
            remedy = "Leave this part out, or give a source with labels."
            faults.add(Fault(name, f"no label in any of its {self.rows:,} rows", "a label in every row", remedy))
        else:
            faults.add_all(self.gaps)
        return False, idle
