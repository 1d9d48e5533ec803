"""The floors on cases worked by hand, and against the best map from input to label."""

import json
import math
from collections import Counter, defaultdict
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.changed_certificates import changed_fields, changed_witnesses
from helpers.models import tiny_model
from promptreach.certificate import Certificate, Evidence
from promptreach.data import Completions, LabelledTexts, TaskData
from promptreach.diagnosis.measures import floors


def found_in(data: TaskData, family: str = "bert") -> floors.Floors:
    return floors.find(tiny_model(family), data, 128)


def texts(pairs: list[tuple[str, str]]) -> LabelledTexts:
    names = tuple(sorted({label for _, label in pairs}))
    return LabelledTexts(tuple(t for t, _ in pairs), tuple(names.index(label) for _, label in pairs), names)


def test_data_floor_of_a_hand_made_contradiction() -> None:
    """Three rows of one input split two to one: entropy of (2/3, 1/3) over 6 rows, and one row lost."""
    pairs = [("the cat", "x"), ("the cat", "x"), ("the cat", "y"), ("a dog", "x"), ("a mat", "y"), ("a tree", "y")]
    found = found_in(texts(pairs))
    entropy = -(2 * math.log(2 / 3) + math.log(1 / 3)) / 6
    assert found.numbers.loss_floor == pytest.approx(entropy, rel=1e-12)
    assert found.numbers.best_accuracy == pytest.approx(5 / 6, rel=1e-12)
    assert found.numbers.conflicting_rows == 3
    assert found.evidence is Evidence.PROVED


def test_inputs_that_only_tokenization_makes_equal_contradict_each_other() -> None:
    """The tiny tokenizer maps unknown words to one token, so the model cannot tell these two apart."""
    found = found_in(texts([("zebra", "x"), ("giraffe", "y"), ("the cat", "x")]))
    assert found.numbers.conflicting_rows == 2


@given(st.lists(st.tuples(st.sampled_from(["cat", "dog", "mat"]), st.sampled_from("xyz")), min_size=2, max_size=30))
def test_no_classifier_beats_the_floor(pairs: list[tuple[str, str]]) -> None:
    """Sound side without slack: the best map from input to label gets at most the stated share right."""
    pairs = [*pairs, ("the", "x"), ("a", "y")]
    contents, labels = [tuple(text.encode()) for text, _ in pairs], [(ord(label),) for _, label in pairs]
    counts = [[len(rows) for rows in context] for context in floors.disputed_contexts(contents, labels)]
    loss = floors.loss_floor(counts, labels)
    accuracy = floors.best_accuracy(floors.disputed_contents(contents, labels).values(), labels)
    groups: dict[str, Counter[str]] = defaultdict(Counter)
    for text, label in pairs:
        groups[text][label] += 1
    right = sum(max(group.values()) for group in groups.values())
    assert Fraction(right, len(pairs)) <= Fraction(accuracy.value)
    assert loss.recheck()
    assert accuracy.recheck()


def test_floor_certificates_survive_json_and_catch_tampering() -> None:
    pairs = [("the cat", "x"), ("the cat", "y"), ("a dog", "x")]
    found = found_in(texts(pairs))
    for made in found.certificates:
        certificate = Certificate.from_dict(json.loads(json.dumps(made.to_dict())))
        assert certificate.recheck()
        assert not replace(certificate, value=certificate.value + 0.01).recheck()


def test_a_floor_of_data_that_was_changed_is_refused() -> None:
    found = found_in(texts([("the cat", "x"), ("the cat", "y"), ("a dog", "x")]))
    for made in found.certificates:
        assert made.rechecked
        assert "without dropout" in made.claim
        assert [what for what, other in changed_fields(made) if other.recheck()] == []
        # One more row of one answer leaves as many lost: that is true of other rows, and the claim speaks of counts.
        still_true = {"conflicts.0.0.up", "conflicts.0.1.up"} if made.value > 0.5 else set()
        assert {where for where, other in changed_witnesses(made) if other.recheck()} <= still_true


def test_completion_floor_counts_tokens() -> None:
    data = Completions(("the cat", "the cat"), (" sat", " ran"))
    found = found_in(data, "llama")
    answers = 2 * len(tiny_model("llama").tokenize([" sat"], special_tokens=False)[0])
    ends = 2 * (tiny_model("llama").end_token is not None)
    assert found.numbers.loss_floor == pytest.approx(2 * math.log(2) / (answers + ends), rel=1e-12)
