"""The choice of columns: who wins where several tasks could be meant, and what is never guessed."""

from collections.abc import Sequence

import pytest

from promptreach.errors import Fault
from promptreach.rows.columns import PAIRS, Table, TaskShape, shape_of
from promptreach.tables import read_task


def table(columns: Sequence[str]) -> Table:
    return Table("a.csv", tuple(columns), lambda wanted: iter(()))


def chosen(columns: Sequence[str], **wishes: str) -> TaskShape | str:
    """The shape of a table with these columns, or what is said instead."""
    shape = shape_of(table(columns), {**dict.fromkeys(("text", "label", "pair", "split")), **wishes})
    return shape if isinstance(shape, TaskShape) else " ".join(map(str, shape))


@pytest.mark.parametrize(("one", "two"), PAIRS)
def test_two_texts_are_never_read_as_one(one: str, two: str) -> None:
    assert chosen([one, two, "label"]) == TaskShape("labels", {"text": one, "label": "label", "pair": two})
    assert chosen([two, one.upper(), "label"]) == TaskShape(
        "labels", {"text": one.upper(), "label": "label", "pair": two}
    )


def test_the_word_of_the_caller_counts_first() -> None:
    assert chosen(["premise", "hypothesis", "label"], text="premise").columns == {"text": "premise", "label": "label"}
    named = chosen(["premise", "hypothesis", "label"], pair="hypothesis")
    assert named.columns == {"text": "premise", "label": "label", "pair": "hypothesis"}
    assert chosen(["text", "label", "messages"]).kind == "labels"
    assert chosen(["prompt", "completion", "messages"]).kind == "completions"
    assert chosen(["prompt", "messages"]).kind == "chats"


def test_a_pair_or_a_split_that_is_not_there_is_named() -> None:
    assert "no column 'other'" in chosen(["text", "label"], pair="other")
    assert "no column 'part'" in chosen(["text", "label"], split="part")
    assert "two different columns" in chosen(["text", "label"], pair="text")
    assert "two different columns" in chosen(["text", "label"], split="label")


def test_no_remedy_leads_to_half_of_a_pair() -> None:
    said = chosen(["premise", "hypothesis"])
    assert "no column for the label" in said
    assert "Did you mean 'premise'" not in said


def test_the_two_kinds_of_faults_are_faults() -> None:
    assert isinstance(shape_of(table(["a", "b"]), {})[0], Fault)
    assert read_task({"Premise": ["a", "b"], "Hypothesis": ["c", "d"], "label": [0, 1]}).inputs == ("a\nc", "b\nd")
