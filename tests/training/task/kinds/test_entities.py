"""Entities of tags against seqeval, and by hand."""

import json
import random
from pathlib import Path

import pytest

from promptreach.training.task.kinds.entities import entities_of, entity_counts, marks_entities

SEQEVAL = Path(__file__).parent / "seqeval.json"
"""What seqeval 1.2.2 gives for `taggings`: by number, the F1 of each."""
KINDS = ("PER", "LOC", "MISC")


def taggings(count: int = 1000) -> list[tuple[list[list[str]], list[list[str]]]]:
    """Random tags of a few texts, and what was given for them: every mark in any order, mostly right."""
    draw = random.Random(0)
    names = ["O", *(f"{mark}-{kind}" for mark in "BIES" for kind in KINDS)]
    found = []
    for number in range(count):
        known = names if number % 4 == 0 else [name for name in names if name[0] in "BIO"]
        true = [[draw.choice(["O", *known]) for _ in range(draw.randint(1, 9))] for _ in range(draw.randint(1, 4))]
        given = [[tag if draw.random() < 0.7 else draw.choice(known) for tag in tags] for tags in true]
        found.append((true, given))
    return found


def f1(true: list[list[str]], given: list[list[str]]) -> float:
    """The share of entities that are right in both ways, all types together."""
    counts = [entity_counts(other, one) for one, other in zip(true, given, strict=True)]
    both, told, meant = (sum(column) for column in zip(*counts, strict=True))
    return 2 * both / (told + meant) if told + meant else 0.0


def test_entity_f1_is_what_seqeval_gave_for_a_thousand_taggings() -> None:
    expected = json.loads(SEQEVAL.read_text())
    found = [f1(*one) for one in taggings()]
    assert len(expected) == 1000
    assert max(abs(one - other) for one, other in zip(found, expected, strict=True)) < 1e-12
    assert 0.1 < sum(found) / 1000 < 0.9


def test_what_stands_in_the_file_is_what_seqeval_gives() -> None:
    seqeval = pytest.importorskip("seqeval.metrics")
    expected = json.loads(SEQEVAL.read_text())[:50]
    given = [float(seqeval.f1_score(*one, zero_division=0)) for one in taggings(50)]
    assert given == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("O O", set()),
        ("B-PER I-PER O B-PER", {("PER", 0, 2), ("PER", 3, 4)}),
        ("B-PER B-PER", {("PER", 0, 1), ("PER", 1, 2)}),
        ("I-PER I-LOC", {("PER", 0, 1), ("LOC", 1, 2)}),
        ("B-PER E-PER E-PER", {("PER", 0, 2), ("PER", 2, 3)}),
        ("S-A-B S-A-B", {("A-B", 0, 1), ("A-B", 1, 2)}),
        ("", set()),
    ],
)
def test_entities_by_hand(tags: str, expected: set[tuple[str, int, int]]) -> None:
    assert entities_of(tags.split()) == expected


def test_tags_that_mark_entities() -> None:
    assert marks_entities(["O", "B-PER", "I-PER"])
    assert not marks_entities(["NN", "VB"])
    assert not marks_entities(["O"])
    assert not marks_entities(["B-PER", "NN"])
