"""The answers of all rows together: settled, their faults, those that training never sees, and the task they make."""

from collections.abc import Mapping, Sequence
from typing import Any

from promptreach.data import LabelledTexts, NumberedTexts, SeveralLabels, TaggedWords, TaskData
from promptreach.rows._labels import (
    Answer,
    LabelKind,
    Problem,
    numbers_of_rows,
    problems,
    remarks,
    settled,
    split_labels,
)


def answers_in(given: Sequence[Answer], kind: LabelKind, rows: Sequence[int]) -> tuple[list[Any], list[Problem]]:
    """The labels of one a row, the lists of several, or the numbers; and what is wrong with them.

    Args:
        given: what stands in each row.
        kind: what is meant by it.
        rows: their numbers in the source.
    """
    if kind == "number":
        numbers = numbers_of_rows(given, rows)
        return list(numbers), [problem for problem in numbers if isinstance(problem, tuple)]
    answers: list[Any] | Problem = settled(given) if kind == "one" else split_labels(given, rows)
    if isinstance(answers, tuple):
        return [], [answers]
    if kind == "one":
        return answers, list(problems(answers, rows))
    return answers, [] if any(answers) else [("no label in any row", "labels", "Check the column.")]


def tags_in(given: Sequence[Answer]) -> tuple[list[Any], list[Problem]]:
    """The tags of each row, and what is wrong with them all."""
    tags = [answer for answer in given if isinstance(answer, tuple)]
    if len({one for row in tags for one in row}) > 1:
        return tags, []
    return tags, [("one tag on every word", "at least 2 different tags", "Check the column.")]


def unseen(answers: Sequence[Any], parts: Sequence[str], rows: Sequence[int]) -> dict[tuple[str, str | int], int]:
    """The labels or tags of another part that no training row has, by that part, each with its first row."""
    sets = [answer if isinstance(answer, tuple) else (answer,) for answer in answers]
    known = {one for answer, part in zip(sets, parts, strict=True) if part == "train" for one in answer}
    found: dict[tuple[str, str | int], int] = {}
    for answer, part, row in zip(sets, parts, rows, strict=True):
        for one in answer:
            if one not in known:
                found.setdefault((part, one), row)
    return found


def labelled(
    inputs: tuple[str, ...], kind: LabelKind, answers: Sequence[Any], common: Mapping[str, Any], told: Sequence[str]
) -> TaskData:
    """Texts with a label, several, or a number.

    Args:
        inputs: the texts.
        kind, answers: as `answers_in` takes and gives them.
        common: what every task has, by the name of the field.
        told: remarks so far.
    """
    if kind == "number":
        if any(number != int(number) for number in answers):
            told = [*told, "The labels are numbers with decimals and are read as numbers to be predicted."]
        return NumberedTexts(inputs, tuple(answers), remarks=tuple(told), **common)
    if kind == "several":
        places = {label: place for place, label in enumerate(sorted({one for labels in answers for one in labels}))}
        sets = tuple(tuple(sorted(places[one] for one in labels)) for labels in answers)
        if all(len(labels) == 1 for labels in sets):
            alone = "Every row has exactly one label, and each label is told apart from its absence all the same."
            told = [*told, alone]
        return SeveralLabels(inputs, sets, tuple(places), remarks=tuple(told), **common)
    numbers = {label: number for number, label in enumerate(sorted(set(answers)))}
    labels, names = tuple(numbers[answer] for answer in answers), tuple(map(str, numbers))
    return LabelledTexts(inputs, labels, names, remarks=(*remarks(answers, common["rows"]), *told), **common)


def tagged(
    words: tuple[tuple[str, ...], ...], answers: Sequence[Any], common: Mapping[str, Any], told: Sequence[str]
) -> TaggedWords:
    """Words with tags; the arguments are those of `labelled`."""
    places = {tag: place for place, tag in enumerate(sorted({one for tags in answers for one in tags}))}
    if all(tag.isdigit() for tag in places):
        told = [
            *told,
            "The tags are numbers, so that entities cannot be told: for entity F1 write names such as B-PER.",
        ]
    tags = tuple(tuple(places[one] for one in row) for row in answers)
    return TaggedWords(words, tags, tuple(places), remarks=tuple(told), **common)
