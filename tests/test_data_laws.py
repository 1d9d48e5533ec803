"""Laws of `promptreach.data.train_test_split`, for any data."""

from collections import Counter

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from promptreach.data import Completions, LabelledTexts, TaskData, train_test_split

few_texts = st.sampled_from([f"text {i}" for i in range(12)])  # few, so that repeats are common
rows_of = st.lists(st.tuples(few_texts, st.integers(0, 3)), min_size=1, max_size=40)
shares = st.floats(0.001, 0.999)
seeds = st.integers(0, 2**31)

Rows = list[tuple[str, int]]


def labelled(rows: Rows) -> LabelledTexts:
    texts, labels = zip(*rows, strict=True)
    return LabelledTexts(texts, labels, ("a", "b", "c", "d"), rows=tuple(range(1, len(rows) + 1)))


def both_kinds(rows: Rows) -> tuple[TaskData, TaskData]:
    texts, labels = zip(*rows, strict=True)
    return labelled(rows), Completions(texts, tuple(map(str, labels)), rows=tuple(range(1, len(rows) + 1)))


def examples(data: TaskData) -> Counter[tuple[int, str, str]]:
    return Counter(zip(data.rows, data.inputs, data.answers, strict=True))


def first_labels(data: LabelledTexts) -> dict[str, int]:
    """The label that each different input has where it first stands."""
    return {text: label for text, label in reversed(list(zip(data.texts, data.labels, strict=True)))}


@given(rows_of, shares, seeds)
def test_nothing_is_lost_repeated_or_reordered(rows: Rows, share: float, seed: int) -> None:
    for data in both_kinds(rows):
        train, held = train_test_split(data, share, seed)
        assert examples(train) + examples(held) == examples(data)
        assert list(train.rows) == sorted(train.rows)
        assert list(held.rows) == sorted(held.rows)


@given(rows_of, shares, seeds)
def test_the_same_seed_gives_the_same_split(rows: Rows, share: float, seed: int) -> None:
    for data in both_kinds(rows):
        assert train_test_split(data, share, seed) == train_test_split(data, share, seed)


def test_another_seed_gives_another_split() -> None:
    for data in both_kinds([(f"text {i}", i % 2) for i in range(40)]):
        assert len({train_test_split(data, 0.25, seed)[1].inputs for seed in range(20)}) == 20


@given(rows_of, shares, seeds)
def test_no_input_stands_on_both_sides(rows: Rows, share: float, seed: int) -> None:
    for data in both_kinds(rows):
        train, held = train_test_split(data, share, seed)
        assert not set(train.inputs) & set(held.inputs)


@given(rows_of, shares, seeds)
@example([("x", 0), ("y", 1)], 0.2, 0)  # one input a label
@example([("x", 0), ("y", 1), ("y", 1)], 0.9, 0)
def test_both_sides_hold_something_and_the_share_is_exact(rows: Rows, share: float, seed: int) -> None:
    different = len({text for text, _ in rows})
    for data in both_kinds(rows):
        train, held = train_test_split(data, share, seed)
        if different == 1:
            assert len(held) == 0
        else:
            assert train.inputs
            assert held.inputs
            assert len(set(held.inputs)) == min(max(round(share * different), 1), different - 1)


@given(rows_of, shares, seeds)
def test_every_label_keeps_its_share_of_the_different_inputs(rows: Rows, share: float, seed: int) -> None:
    _, held = train_test_split(labelled(rows), share, seed)
    label_of = dict(reversed(rows))  # of an input with several labels, the first
    total, held_total = Counter(label_of.values()), Counter(label_of[text] for text in set(held.inputs))
    held_count = sum(held_total.values())
    for label, count in total.items():
        expected = count * held_count  # over the number of inputs, kept in integers: this law is exact
        assert expected // len(label_of) <= held_total[label] <= -(-expected // len(label_of))


def test_every_input_is_held_out_equally_often() -> None:
    data = LabelledTexts(tuple("abcdefghij"), (0,) * 7 + (1,) * 2 + (2,), ("x", "y", "z"))
    counts = Counter(text for seed in range(2000) for text in train_test_split(data, 0.3, seed)[1].inputs)
    # Each count is binomial(2000, 0.3) with deviation 20.5; five of those leave a chance below 1e-5 for ten inputs.
    assert all(abs(counts[text] - 600) < 103 for text in data.texts)


def test_no_rows_split_into_none() -> None:
    train, held = train_test_split(Completions((), ()), 0.5, 0)
    assert len(train) == len(held) == 0


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, float("nan")])
def test_a_share_outside_the_open_interval_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="expected a share between 0 and 1"):
        train_test_split(Completions(("a", "b"), ("x", "y")), share, 0)
