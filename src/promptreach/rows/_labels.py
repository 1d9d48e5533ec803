"""The faults and oddities of a column of labels as a whole, where each label by itself can be read.

A fault stops the reading; a remark goes with the data into the report, since only its owner knows whether "nan" is a
class or a gap.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from promptreach.rows._table import shorten

Label = str | int
Problem = tuple[str, str, str]
"""What was seen, what was expected, and what to do about it."""

_WHOLE = re.compile(r"[+-]?\d+\.0*")
_GAPS = frozenset({"nan", "none", "null", "n/a", "na", "<na>", "undefined", "-"})
"""The texts that programs write where a value is missing, in lower case."""
_NO_LABEL = -1
"""The number that marks a row without a label in many data sets."""
_IDENTIFIERS_FROM = 20
_ORDER_FROM = 4
_MARKS = (",", ";", "|")
SEVERAL = (
    "Make one file for each label, with a column that says yes or no, and audit each; where it is one class, write it "
    "without the mark."
)
"""The remedy for rows with several labels."""


def settled(answers: Sequence[Label | float]) -> list[Label] | Problem:
    """The labels, whole numbers that were written with a decimal point as integers; or the fault of them all.

    A column is alike in every format: 1.0 is 1 as a number of JSON and as the text of a CSV cell.
    """
    if all(isinstance(answer, str) and _WHOLE.fullmatch(answer.strip()) for answer in answers):
        return [int(float(answer)) for answer in answers]
    numbers = [number for answer in set(answers) if (number := _number(answer)) is not None]
    decimals = [number for number in numbers if not number.is_integer()]
    if any(isinstance(answer, float) for answer in answers) or (decimals and len(numbers) == len(set(answers))):
        shown = ", ".join(str(number) for number in sorted(decimals)[:3])
        count = sum(_number(answer) in set(decimals) for answer in answers)
        seen = f"numbers with decimals as labels ({shown}) in {count:,} of {len(answers):,} rows"
        return seen, "names or integers", "A label is a class: give each range of the number a name."
    return [answer for answer in answers if not isinstance(answer, float)]


def _number(answer: Label | float) -> float | None:
    try:
        number = float(answer)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def problems(answers: Sequence[Label], rows: Sequence[int]) -> Iterator[Problem]:
    """The faults that only show in all labels together.

    Args:
        answers: the label of each row, settled; at least two.
        rows: their numbers in the source.
    """
    first_rows = _first_rows(answers, rows)

    def said(label: Label) -> str:
        return f"{shorten(label)} (row {first_rows[label]})"

    count, by_kind = len(answers), {type(label): label for label in first_rows}
    if len(by_kind) > 1:
        seen = f"both integers and strings: {said(by_kind[int])} and {said(by_kind[str])}"
        yield seen, "one kind", "Write all labels as names, or all as integers."
    names = [label for label in first_rows if isinstance(label, str)]
    if len(first_rows) == 1:
        seen = f"the one label {shorten(answers[0])} in all {count:,} rows"
        yield seen, "at least 2 different labels", "Check the column, or add rows of another label."
    if (several := _several(names)) is not None:
        yield f"several labels in one cell, as in {said(several)}", "one label a row", SEVERAL
        return
    if count >= _IDENTIFIERS_FROM and len(first_rows) > count / 2:
        seen = f"{len(first_rows):,} different labels in {count:,} rows"
        yield seen, "a label for two rows or more on average", "Is this the text's column, or an identifier?"
    stripped: dict[str, str] = {}
    folded: dict[str, str] = {}
    for name in names:
        twin = stripped.setdefault(name.strip(), name)
        if twin != name:
            yield f"{said(twin)} and {said(name)}", "labels that differ in more than white space", "Strip the labels."
            continue
        twin = folded.setdefault(name.strip().casefold(), name)
        if twin != name:
            expected = "labels that differ in more than upper and lower case"
            yield f"{said(twin)} and {said(name)}", expected, "Write each label in one way."


def _several(names: Sequence[str]) -> str | None:
    """A label that holds several: a list, or one whose every part between marks stands in another label too."""
    for name in names:
        if name.strip().startswith("[") and name.strip().endswith("]"):
            return name
    for mark in _MARKS:
        parts = {name: {part.strip() for part in name.split(mark)} - {""} for name in names}
        counts = Counter(part for found in parts.values() for part in found)
        for name, found in parts.items():
            if len(found) > 1 and all(counts[part] > 1 for part in found):
                return name
    return None


def remarks(answers: Sequence[Label], rows: Sequence[int]) -> tuple[str, ...]:
    """What may be meant otherwise, one sentence each: labels that often stand for a missing one."""
    first_rows, counts = _first_rows(answers, rows), Counter(answers)
    found = []
    joined = [label for label in first_rows if isinstance(label, str) and any(mark in label for mark in _MARKS)]
    if joined:
        said = f"{shorten(joined[0])} (row {first_rows[joined[0]]})"
        found.append(f"The label {said} is taken as one class, its marks included.")
    if len(first_rows) >= _ORDER_FROM and all(isinstance(label, int) for label in first_rows):
        found.append(f"The labels are {len(first_rows)} whole numbers, taken as classes without an order.")
    for label in first_rows:
        is_gap = label == _NO_LABEL if isinstance(label, int) else label.strip().casefold() in _GAPS | {str(_NO_LABEL)}
        if is_gap:
            count = f"in {counts[label]:,} of {len(rows):,} rows, first in row {first_rows[label]}"
            found.append(
                f"The label {shorten(label)} ({count}) is taken as a class of its own; where it means that "
                "there is no label, drop these rows."
            )
    return tuple(found)


def _first_rows(answers: Sequence[Label], rows: Sequence[int]) -> Mapping[Label, int]:
    """The first row of each label, in the order in which they occur."""
    found: dict[Label, int] = {}
    for label, row in zip(answers, rows, strict=True):
        found.setdefault(label, row)
    return found
