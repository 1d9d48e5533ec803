"""Exact match and F1 of found answers as SQuAD's evaluation has them."""

import pytest

from promptreach.training.task.kinds.span_scores import plain_words, span_scores


def test_words_lose_case_punctuation_and_articles() -> None:
    assert plain_words("The cat, a DOG and an  ant.") == ["cat", "dog", "and", "ant"]
    assert plain_words("another theatre") == ["another", "theatre"]
    assert plain_words("well-known U.S.") == ["wellknown", "us"]


@pytest.mark.parametrize(
    ("given", "answers", "expected"),
    [
        ("the Cat.", ["cat"], (1, 1)),
        ("a black cat", ["cat", "the cat sat"], (0, 2 / 3)),
        ("cat cat dog", ["cat dog dog"], (0, 2 / 3)),
        ("cat", ["dog", "black cat"], (0, 2 / 3)),
        ("", [], (1, 1)),
        ("cat", [], (0, 0)),
        ("", ["cat"], (0, 0)),
        # What is left of an answer of articles alone is no answer.
        ("the", ["a"], (1, 1)),
    ],
)
def test_scores_by_hand(given: str, answers: list[str], expected: tuple[float, float]) -> None:
    assert span_scores(given, answers) == pytest.approx(expected, abs=1e-15)
