"""A column of labels as a whole, where each label by itself can be read: one a row, several, or a number.

A fault stops the reading; a remark goes with the data into the report, since only its owner knows whether "nan" is a
class or a gap.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from promptreach.rows._cells import is_listed
from promptreach.rows._table import shorten

Label = str | int
Answer = Label | float | tuple[str, ...]
"""What stands in one row: a label, a number with decimals, or a list of labels."""
LabelKind = Literal["one", "several", "number"]
"""What a column of labels may hold; the caller's word for it."""
LABEL_KINDS: tuple[LabelKind, ...] = ("one", "several", "number")
Problem = tuple[str, str, str]
"""What was seen, what was expected, and what to do about it."""

_WHOLE = re.compile(r"([+-]?\d{1,300})\.0*")
_GAPS = frozenset({"nan", "none", "null", "n/a", "na", "<na>", "undefined", "-"})
"""The texts that programs write where a value is missing, in lower case."""
MOST_NUMBER = 1e30
"""The largest number, up or down, that is predicted: answers are in single precision, which ends at 3e38."""
_NEAR = 1e-6
"""The least range of numbers as a share of the largest: single precision has seven digits."""
_NO_LABEL = -1
"""The number that marks a row without a label in many data sets."""
_IDENTIFIERS_FROM = 20
_ORDER_FROM = 4
_MARKS = (",", ";", "|")
_SEVERAL = (
    "Call it with --label-kind several (label_kind) to split them at the mark; where it is one class, write it without "
    "the mark."
)


def kind_of_labels(answers: Sequence[Answer], wish: LabelKind | None) -> LabelKind:
    """What the column holds: the caller's word, or several labels where there are lists, numbers where all are numbers
    and some have decimals, and otherwise one label a row."""
    if wish is not None:
        return wish
    if any(isinstance(answer, tuple) for answer in answers):
        return "several"
    distinct = set(answers)
    found = [number for answer in distinct if (number := _number(answer)) is not None]
    return "number" if len(found) == len(distinct) and not all(map(float.is_integer, found)) else "one"


def settled(answers: Sequence[Answer]) -> list[Label] | Problem:
    """The labels of one a row, whole numbers that were written with a decimal point as integers; or the fault of them
    all.

    A column is alike in every format: 1.0 is 1 as a number of JSON and as the text of a CSV cell.
    """
    # From the digits: a float has but 16 of them, so that two long identifiers would be one label.
    whole = [_WHOLE.fullmatch(answer.strip()) if isinstance(answer, str) else None for answer in answers]
    if all(whole):
        return [int(match[1]) for match in whole if match]
    numbers = {answer: _number(answer) for answer in set(answers)}
    decimals = {answer: number for answer, number in numbers.items() if number and not number.is_integer()}
    if any(isinstance(answer, float | tuple) for answer in numbers) or (decimals and None not in numbers.values()):
        count = sum(isinstance(answer, tuple) or answer in decimals for answer in answers)
        shown = ", ".join(str(number) for number in sorted(decimals.values())[:3]) or "lists"
        what = f"numbers with decimals ({shown})" if decimals else shown
        seen = f"{what} as labels in {count:,} of {len(answers):,} rows"
        remedy = "Call it with --label-kind number (label_kind) to predict them, or name each range of the number."
        return seen, "names or integers", remedy if decimals else "Call it with --label-kind several (label_kind)."
    return [answer for answer in answers if isinstance(answer, str | int)]


def split_labels(answers: Sequence[Answer], rows: Sequence[int]) -> list[tuple[str, ...]] | Problem:
    """The labels of several a row: the lists, or the texts split at the mark that most of them have.

    Lists of 0 and 1 that are all as long, with a number twice in one of them, say of each label whether it is there;
    the labels are then called by their places.
    """
    if texts := [answer for answer in answers if not isinstance(answer, tuple)]:
        if listed := next(filter(is_listed, texts), None):
            return _unread(shorten(listed))
        if len(texts) < len(answers):
            few = len(texts) if 2 * len(texts) <= len(answers) else len(answers) - len(texts)
            is_few = {isinstance(answer, tuple): row for answer, row in reversed(list(zip(answers, rows, strict=True)))}
            first = is_few[few != len(texts)]
            seen = (
                f"{'lists' if few != len(texts) else 'single labels'} in {few:,} of {len(answers):,} rows, first in row"
            )
            return f"{seen} {first}", "lists in every row or in none", "Write a single label as a list of one."
        mark = max(_MARKS, key=lambda mark: sum(mark in str(text) for text in texts))
        return [tuple(dict.fromkeys(filter(None, map(str.strip, str(text).split(mark))))) for text in texts]
    lists = [answer for answer in answers if isinstance(answer, tuple)]
    is_switches = len(set(map(len, lists))) == 1 and {one for row in lists for one in row} <= {
        "0",
        "1",
        "True",
        "False",
    }
    if is_switches and any(len(set(row)) < len(row) for row in lists):
        return [tuple(str(place) for place, one in enumerate(row) if one in ("1", "True")) for row in lists]
    return [tuple(dict.fromkeys(row)) for row in lists]


def numbers_of_rows(answers: Sequence[Answer], rows: Sequence[int]) -> list[float] | list[Problem]:
    """The numbers of all rows, or a fault for each row without one, and for numbers that cannot be told apart."""
    found = [_number(answer) for answer in answers]
    missing = [
        (f"{shorten(answer)} (row {row})", "a number", "Mend it, or drop the row.")
        for answer, number, row in zip(answers, found, rows, strict=True)
        if number is None
    ]
    if len(missing) == len(found):
        remedy = "Write numbers in their place, such as 0, 1 and 2; or leave label_kind (--label-kind) out."
        return [(f"{missing[0][0]} and no number in any row", "numbers", remedy)]
    numbers = [number for number in found if number is not None]
    if missing:
        return missing
    problem = _unfit(numbers, rows)
    return [problem] if problem else numbers


def _unfit(numbers: Sequence[float], rows: Sequence[int]) -> Problem | None:
    """What keeps numbers from being predicted: one that is too large, or that they are the same, or nearly so."""
    largest = max(numbers, key=abs)
    spread, size = max(numbers) - min(numbers), abs(largest)
    if size > MOST_NUMBER:
        seen = f"the number {largest:g} (row {rows[numbers.index(largest)]})"
        return seen, f"none beyond {MOST_NUMBER:g}, up or down", "Divide all numbers by the same one, or drop the row."
    if not spread:
        seen = f"the one number {numbers[0]:g} in all {len(rows):,} rows"
        return seen, "at least 2 different numbers", "Check the column, or add rows."
    if spread < max(1 / MOST_NUMBER, size * _NEAR):
        seen = f"numbers from {min(numbers):.17g} to {max(numbers):.17g}"
        expected = "numbers that are further apart, as single precision tells them"
        return seen, expected, "Subtract the same number from all, and multiply what is left by the same one."
    return None


def _number(answer: Answer) -> float | None:
    if isinstance(answer, tuple):
        return None
    try:
        number = float(answer)
    except (ValueError, OverflowError):
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
    if (listed := next(filter(is_listed, names), None)) is not None:
        yield _unread(said(listed))
        return
    if (several := _several(names)) is not None:
        yield f"several labels in one cell, as in {said(several)}", "one label a row", _SEVERAL
        return
    if count >= _IDENTIFIERS_FROM and len(first_rows) > count / 2:
        seen = f"{len(first_rows):,} different labels in {count:,} rows"
        remedy = "Is this the text's column, or an identifier?"
        if int in by_kind:
            remedy += " Numbers that are to be predicted are read with --label-kind number (label_kind)."
        yield seen, "a label for two rows or more on average", remedy
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
    """A label that holds several: one whose every part between marks stands in another label too."""
    for mark in _MARKS:
        parts = {name: {part.strip() for part in name.split(mark)} - {""} for name in names}
        counts = Counter(part for found in parts.values() for part in found)
        for name, found in parts.items():
            if len(found) > 1 and all(counts[part] > 1 for part in found):
                return name
    return None


def _unread(shown: str) -> Problem:
    remedy = 'Write it as JSON does, ["a", "b"]; or the labels alone, with commas between them (--label-kind several).'
    return f"a list written as text that cannot be read, {shown}", "labels", remedy


def remarks(answers: Sequence[Label], rows: Sequence[int]) -> tuple[str, ...]:
    """What may be meant otherwise, one sentence each: labels that often stand for a missing one."""
    first_rows, counts = _first_rows(answers, rows), Counter(answers)
    found = []
    joined = [label for label in first_rows if isinstance(label, str) and any(mark in label for mark in _MARKS)]
    if joined:
        said = f"{shorten(joined[0])} (row {first_rows[joined[0]]})"
        found.append(f"The label {said} is taken as one class, its marks included.")
    if len(first_rows) >= _ORDER_FROM and all(isinstance(label, int) for label in first_rows):
        found.append(
            f"The labels are {len(first_rows)} whole numbers, taken as classes without an order; --label-kind number "
            "reads them as numbers."
        )
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
