"""Rows with several options: the shapes that people have, read as meant, or refused with what to do."""

import subprocess
import sys
from typing import Any

import pytest

from promptreach.data import Completions, LabelledTexts
from promptreach.errors import DataError
from promptreach.rows.options import options_of, repeated, spaced, with_options
from promptreach.tables import read_task

TEXTS = ["one", "two", "three"]


def rows_of(answers: list[Any], options: Any = TEXTS, **names: str) -> list[dict[str, Any]]:
    names = {"question": "question", "choices": "choices", "answer": "answer", **names}
    return [
        {names["question"]: f"question {row}", names["choices"]: options, names["answer"]: answer}
        for row, answer in enumerate(answers)
    ]


@pytest.mark.parametrize(
    ("rows", "right"),
    [
        (rows_of([0, 2, 1]), ["one", "three", "two"]),  # MMLU
        (
            rows_of(["1", "0", "2"], question="ctx", choices="endings", answer="label"),
            ["two", "one", "three"],
        ),  # HellaSwag
        (
            rows_of(["B", "C"], {"text": TEXTS, "label": ["A", "B", "C"]}, answer="answerKey"),
            ["two", "three"],
        ),  # ARC
        (rows_of(["3", "1"], {"text": TEXTS, "label": ["1", "2", "3"]}, answer="answerKey"), ["three", "one"]),
        (rows_of([1, 3, 2]), ["one", "three", "two"]),  # counted from 1
        (rows_of(["two", " three"]), ["two", "three"]),
        (rows_of(["b", "c"], ["a", "b", "c"], choices="options"), ["b", "c"]),
    ],
)
def test_answers_are_read_as_text_letter_or_place(rows: list[dict[str, Any]], right: list[str]) -> None:
    data = read_task(rows)
    assert isinstance(data, Completions)
    assert [text.strip() for text in data.completions] == right
    assert data.prompts[0] == "question 0"
    assert all(text in own for text, own in zip(data.completions, data.options, strict=True))
    assert set(data.columns) == {"prompt", "options", "answer"}


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (rows_of([1, 2, 1]), "from 0 or from 1"),
        (rows_of(["four", "one"]), "which is none of"),
        (rows_of([0, 5]), "which is none of"),
        (rows_of([0, 1], "one|two"), "a list of texts"),
        (rows_of([0, 1], ["one"]), "at least two different"),
        (rows_of([0, 1], ["one", "one "]), "at least two different"),
        (rows_of([0, None]), "no value"),
        (rows_of([0, "²"]), "'²', which is none of"),
        (rows_of([0, "--5"]), "'--5', which is none of"),
        (rows_of([0, "1" * 5000]), "which is none of"),
        (rows_of([0, 10**5000]), "more than 300 digits"),
    ],
)
def test_what_could_be_read_in_two_ways_or_none_is_refused(rows: list[dict[str, Any]], words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_task(rows)


def test_the_callers_columns_count_first() -> None:
    rows = [{"q": "why", "list": TEXTS, "right": "two"}, {"q": "how", "list": TEXTS, "right": "one"}]
    data = read_task(rows, prompt_col="q", options_col="list", completion_col="right")
    assert isinstance(data, Completions)
    assert data.options == ((" one", " two", " three"),) * 2
    with pytest.raises(DataError, match="no column 'nowhere'"):
        read_task(rows, prompt_col="q", options_col="nowhere", completion_col="right")
    plain = read_task(rows_of(["a", "b"]), prompt_col="question", completion_col="answer")
    assert isinstance(plain, Completions)
    assert plain.options == ()


def test_a_question_about_a_text_is_asked_behind_it() -> None:
    rows = [{"article": f"text {row}", "question": "why?", "options": TEXTS, "answer": "B"} for row in range(2)]  # RACE
    data = read_task(rows)
    assert data.inputs == ("text 0\n\nwhy?", "text 1\n\nwhy?")
    assert set(data.columns) == {"context", "prompt", "options", "answer"}
    assert data.unused_columns == ()


def test_completions_with_options_keep_their_own_white_space() -> None:
    data = Completions(("is it?", "was it?"), (" yes", " no"))
    found = with_options(data, ["yes", "no"])
    assert isinstance(found, Completions)
    assert found.completions == data.completions
    assert found.options == ((" yes", " no"),) * 2


def test_labels_get_the_words_that_are_given_for_them() -> None:
    data = LabelledTexts(("fine", "poor "), (1, 0), ("neg", "pos"))
    found = with_options(data, {"pos": "great", "neg": "terrible"})
    assert isinstance(found, Completions)
    assert found.completions == (" great", "terrible")
    assert found.options == ((" terrible", " great"), ("terrible", "great"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["yes", "maybe", "no"], "'maybe', which no row's answer is"),
        (["yes", "yes", "no"], "'yes' twice"),
        (["yes"], "at least two texts"),
        (["yes", "no way"], "other rows that are no option"),
        ({"yes": "a", "no": "b"}, "have no labels"),
    ],
)
def test_options_that_do_not_fit_the_rows_are_named(options: Any, words: str) -> None:
    words = words.replace("which no row's answer is", "which is no row's answer")
    with pytest.raises(DataError, match=words):
        read_task(Completions(("is it?", "was it?"), (" yes", " no")), options=options)
    with pytest.raises(DataError, match="no word for the label 'pos'"):
        read_task(LabelledTexts(("a", "b"), (0, 1), ("neg", "pos")), options=["neg", "other"])


def test_options_that_are_no_texts() -> None:
    """In a process of its own, as users have it: here types are checked before anything else is."""
    code = """
from promptreach.errors import DataError
from promptreach.tables import read_task
for options in ({"x": None, "y": "b"}, {"x": 1}, 5, "xy"):
    try:
        read_task((["a", "b"], ["x", "y"]), options=options)
    except DataError as error:
        print(error)
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()
    assert out[0] == "options: None for 'x'; expected a text"
    assert out[1] == "options: 1 for 'x'; expected a text"
    assert [line.split(";")[0] for line in out[2:]] == ["options: 5", "options: 'xy'"]


def test_the_cell_of_options_and_the_blank_in_front() -> None:
    assert options_of(["a", "b"]) == (("a", "b"), ("A", "B"))
    assert options_of({"text": ["a", "b"], "label": ["x", "y"]}) == (("a", "b"), ("x", "y"))
    assert spaced("so", ["a", " b"]) == (" a", " b")
    assert spaced("so\n", ["a", "b"]) == ("a", "b")


def test_few_completions_that_repeat_are_offered_as_options() -> None:
    assert repeated([" yes", " no", "yes"] * 5) == ["yes", "no"]
    assert repeated(["yes", "no"]) == []
    assert repeated([f"text {row}" for row in range(40)]) == []
