"""One row to one example: every value judged by its role."""

import numpy as np
import pytest

from promptreach.errors import Fault
from promptreach.rows.examples import Example, example_of, is_gap


def where(role: str) -> str:
    return f"row 1, {role}"


def test_a_row_of_each_kind() -> None:
    assert example_of("labels", {"text": "a", "label": np.int64(3)}, where) == Example("a", "", 3, None)
    assert example_of("labels", {"text": "a", "pair": "b", "label": True}, where) == Example("a", "b", "True", None)
    assert example_of("completions", {"prompt": "a", "completion": "b"}, where) == Example("a", "", "b", None)
    found = example_of("instructions", {"prompt": "Do.", "input": None, "completion": "ok", "system": "S"}, where)
    assert isinstance(found, Example)
    assert (found.input, found.answer) == ("S\n\nDo.\n\n", "ok")
    assert [turn.role for turn in found.chat or ()] == ["system", "user", "assistant"]


@pytest.mark.parametrize(
    ("label", "kept"), [(1.0, 1), (2.5, 2.5), (False, "False"), (np.bool_(True), "True"), (" x", " x")]
)
def test_labels_keep_what_they_say(label: object, kept: object) -> None:
    found = example_of("labels", {"text": "a", "label": label}, where)
    assert isinstance(found, Example)
    assert (found.answer, type(found.answer)) == (kept, type(kept))


def test_all_faults_of_a_row_come_together() -> None:
    faults = example_of("labels", {"text": "", "pair": None, "label": {"a": 1}}, where)
    assert isinstance(faults, list)
    assert [fault.where for fault in faults] == ["row 1, text", "row 1, pair", "row 1, label"]


def test_a_conversational_completion_is_one_turn_of_the_assistant() -> None:
    asked, said = {"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "2"}
    mixed = example_of("completions", {"prompt": [asked], "completion": "2"}, where)
    assert isinstance(mixed, Example)
    assert mixed == example_of("completions", {"prompt": [asked], "completion": [said]}, where)
    for completion, part in (([said, asked, said], "3 turns"), ([asked], "the user's"), ("", "empty string")):
        faults = example_of("completions", {"prompt": [asked], "completion": completion}, where)
        assert isinstance(faults, list)
        assert part in str(faults[0])
        assert isinstance(faults[0], Fault)


def test_gaps() -> None:
    assert [is_gap(value) for value in (None, float("nan"), 0, "", False)] == [True, True, False, False, False]
