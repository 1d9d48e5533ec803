"""Rows whose answer is one of several texts: a list in every row, or the same few everywhere."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from promptreach.data import Completions, LabelledTexts, TaskData
from promptreach.errors import Fault
from promptreach.rows._table import shorten

_SHOWN = 5
_PLACE = re.compile(r"-?[0-9]{1,9}")
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
Problem = tuple[str, str, str]


def options_of(value: Any) -> tuple[tuple[str, ...], tuple[str, ...]] | Problem:
    """The options in a row's cell and the names that an answer may call them by, or what is wrong with them.

    A list of texts, a mapping with the lists ``text`` and ``label`` (ARC), or one from names to texts; without names
    they are called by letters.
    """
    labels: Any = None
    if isinstance(value, Mapping) and "text" not in value:
        value, labels = list(value.values()), list(value)
    elif isinstance(value, Mapping):
        value, labels = value["text"], value.get("label")
    value, labels = (
        list(part) if isinstance(part, tuple) or hasattr(part, "tolist") else part for part in (value, labels)
    )
    if not isinstance(value, list) or not all(isinstance(one, str) and one.strip() for one in value):
        return shorten(value), "a list of texts to choose from", "Write the options of every row as a list of strings."
    if len(value) < 2 or len({one.strip() for one in value}) < len(value):
        return f"the options {shorten(value)}", "at least two different ones", "Mend them, or drop the row."
    named = isinstance(labels, list) and len(labels) == len(value)
    return tuple(value), tuple(map(str, labels)) if named else tuple(_LETTERS[: len(value)])


def answers_among(
    where: str,
    options: Sequence[tuple[str, ...]],
    names: Sequence[tuple[str, ...]],
    answers: Sequence[Any],
    rows: Sequence[int],
) -> list[int] | list[Fault]:
    """The place of every row's answer among its options, or the faults of those that have none.

    Answers are all texts of options, or all names, or all places; places count from 0 where one is 0, and from 1 where
    one is the number of a row's options.

    Args:
        where: the column, for messages.
        options, names: of each row, as `options_of` gives them.
        answers: of each row, as they stand in the table.
        rows: their numbers.
    """
    texts = [str(answer).strip() for answer in answers]
    ways = [[_place([one.strip() for one in own], text) for own, text in zip(options, texts, strict=True)]]
    ways.append([_place(own, text) for own, text in zip(names, texts, strict=True)])
    numbers = [int(text) if _PLACE.fullmatch(text) else None for text in texts]
    counted = [number for number in numbers if number is not None]
    from_one = [number == len(own) for number, own in zip(numbers, options, strict=True)]
    if (
        counted
        and 0 not in counted
        and not any(from_one)
        and None not in numbers
        and None in ways[0]
        and None in ways[1]
    ):
        seen = f"places from {min(counted)} to {max(counted)}, which may count from 0 or from 1"
        remedy = "Write the text of the right option, or its letter, instead of its place."
        return [Fault(where, seen, "answers that can be read in one way", remedy)]
    first = int(bool(counted) and 0 not in counted)
    ways.append(
        [
            number - first if number is not None and 0 <= number - first < len(own) else None
            for number, own in zip(numbers, options, strict=True)
        ]
    )
    best = min(ways, key=lambda way: way.count(None))
    found = [place for place in best if place is not None]
    if len(found) == len(best):
        return found
    remedy = "Write the text of the right option, its letter, or its place."
    return [
        Fault(
            f"{where}, row {row}",
            f"{shorten(answer)}, which is none of {shorten(list(own))}",
            "one of the row's options",
            remedy,
        )
        for row, answer, own, place in zip(rows, answers, options, best, strict=True)
        if place is None
    ]


def _place(known: Sequence[str], text: str) -> int | None:
    return list(known).index(text) if text in known else None


def spaced(prompt: str, options: Sequence[str]) -> tuple[str, ...]:
    """The options as they stand behind a prompt: with a blank in front where neither brings any white space."""
    return tuple(one if one[:1].isspace() or prompt[-1:].isspace() else f" {one}" for one in options)


def with_options(data: TaskData, given: Sequence[str] | Mapping[str, str]) -> TaskData | list[Fault]:
    """The rows with the same options everywhere: the texts that completions are, or a word for every label.

    Completions keep the white space that they begin with. Labelled texts become completions: the text with the word of
    its label behind it.

    Args:
        given: options; of labels either these themselves, or a mapping from a label to its word.

    Returns:
        The rows, or all faults: an option that is no row's answer, an answer that is no option, options that repeat.
    """
    if isinstance(given, str) or not isinstance(given, Iterable):
        return [Fault("options", shorten(given), "a list of texts, or a mapping from a label to its word")]
    if isinstance(given, Mapping) and (bad := [name for name, word in given.items() if not isinstance(word, str)]):
        return [Fault("options", f"{shorten(given[one])} for {shorten(one)}", "a text") for one in bad]
    words = [str(one).strip() for one in (given.values() if isinstance(given, Mapping) else given)]
    twice = [word for word, count in Counter(words).items() if count > 1]
    faults = [Fault("options", f"{word!r} twice", "each once") for word in twice]
    if len(words) < 2 or not all(words):
        faults.append(Fault("options", f"{shorten(list(given))}", "at least two texts to choose from"))
    if isinstance(data, LabelledTexts):
        return faults or _verbalised(data, given)
    if not isinstance(data, Completions):
        return [*faults, Fault("options", f"options for a task of the kind {data.kind!r}", "labels or completions")]
    if isinstance(given, Mapping):
        faults.append(Fault("options", "words for labels", "the completions themselves", "These rows have no labels."))
    if data.options:
        faults.append(Fault("options", "given, and a column of options as well", "one of them", "Leave one out."))
    counts = Counter(text.strip() for text in data.completions)
    faults += [
        Fault("options", f"{word!r}, which is no row's answer", "texts that stand in the rows", "Mend or leave it out.")
        for word in words
        if word not in counts
    ]
    rows = data.rows or tuple(range(1, len(data) + 1))
    others = [(row, text) for row, text in zip(rows, data.completions, strict=True) if text.strip() not in words]
    if others:
        seen = f"{shorten(others[0][1])} (row {others[0][0]}) and {len(others) - 1:,} other rows that are no option"
        faults.append(Fault(f"{data.source}, completion", seen, f"one of {', '.join(words)}", "Add it to the options."))
    if faults:
        return faults
    chosen = [words.index(text.strip()) for text in data.completions]
    fronts = [text[: len(text) - len(text.lstrip())] for text in data.completions]
    options = tuple(tuple(front + word for word in words) for front in fronts)
    completions = tuple(own[place] for own, place in zip(options, chosen, strict=True))
    return replace(data, completions=completions, options=options)


def _verbalised(data: LabelledTexts, given: Sequence[str] | Mapping[str, str]) -> TaskData | list[Fault]:
    words = dict(given) if isinstance(given, Mapping) else {str(word): str(word) for word in given}
    unknown = [name for name in words if name not in data.label_names]
    missing = [name for name in data.label_names if name not in words]
    expected = f"a word for each of {', '.join(data.label_names[:12])}, as in label=word"
    faults = [Fault("options", f"{name!r}, which is no label", expected) for name in unknown]
    faults += [Fault("options", f"no word for the label {name!r}", expected) for name in missing]
    if faults:
        return faults
    texts = [words[name].strip() for name in data.label_names]
    options = tuple(spaced(prompt, texts) for prompt in data.inputs)
    return Completions(
        data.inputs,
        tuple(own[label] for own, label in zip(options, data.labels, strict=True)),
        data.source,
        data.rows,
        data.remarks,
        options=options,
        parts=data.parts,
        part_sources=data.part_sources,
        columns=data.columns,
        unused_columns=data.unused_columns,
    )


def repeated(completions: Sequence[str], most: int = 12, share: int = 5) -> list[str]:
    """The different completions, the most frequent first, where they are few and repeat; otherwise none."""
    counts = Counter(text.strip() for text in completions)
    few = 2 <= len(counts) <= most and len(completions) >= share * len(counts) and min(counts.values()) >= 2
    return [text for text, _ in counts.most_common()] if few and all(len(text) <= 40 for text in counts) else []
