"""The faults and oddities of a column of labels as a whole, where each label by itself can be read.

A fault stops the reading; a remark goes with the data into the report, since only its owner knows whether "nan" is a
class or a gap.
"""

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


def problems(answers: Sequence[Label], rows: Sequence[int]) -> Iterator[Problem]:
    """The faults that only show in all labels together.

    Args:
        answers: the label of each row; at least two.
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
    if len(names) == len(first_rows) and all(_WHOLE.fullmatch(name.strip()) for name in names):
        yield floats(names, count)
        return
    if len(first_rows) == 1:
        seen = f"the one label {shorten(answers[0])} in all {count:,} rows"
        yield seen, "at least 2 different labels", "Check the column, or add rows of another label."
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


def floats(values: Sequence[object], count: int) -> Problem:
    """The one fault of a column of numbers with a decimal point, or of truth values, in `count` rows."""
    shown = ", ".join(sorted(set(map(str, values)))[:3])
    if any(isinstance(value, bool) for value in values):
        return f"truth values as labels ({shown}) in all {count:,} rows", "names or integers", "Write them as names."
    seen = f"numbers with a decimal point as labels ({shown}) in all {count:,} rows"
    if all(_WHOLE.fullmatch(str(value).strip()) for value in values):
        return seen, "names or integers", "Cast them to integers, as in 1 for 1.0."
    return seen, "names or integers", "A label is a class: give each range of the number a name."


def remarks(answers: Sequence[Label], rows: Sequence[int]) -> tuple[str, ...]:
    """What may be meant otherwise, one sentence each: labels that often stand for a missing one."""
    first_rows, counts = _first_rows(answers, rows), Counter(answers)
    found = []
    for label in first_rows:
        is_gap = label == _NO_LABEL if isinstance(label, int) else label.strip().casefold() in _GAPS | {str(_NO_LABEL)}
        if is_gap:
            found.append(
                f"The label {shorten(label)} ({counts[label]:,} rows, the first is row {first_rows[label]}) is taken "
                "as a class of its own; where it means that there is no label, drop these rows."
            )
    return tuple(found)


def _first_rows(answers: Sequence[Label], rows: Sequence[int]) -> Mapping[Label, int]:
    """The first row of each label, in the order in which they occur."""
    found: dict[Label, int] = {}
    for label, row in zip(answers, rows, strict=True):
        found.setdefault(label, row)
    return found
