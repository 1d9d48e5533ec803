"""Rows from the package `datasets` itself: features, dicts of splits, streams, frames."""

from typing import Any

import pytest

from helpers.faulty_files import assert_told
from promptreach.data import Completions, LabelledTexts, TaggedWords
from promptreach.tables import read_task

datasets = pytest.importorskip("datasets", reason="needs the package datasets (the extra [data])")


def labelled(count: int = 8) -> Any:
    """Rows with a column of classes that have names, and one that plays no part."""
    value, label = datasets.Value, datasets.ClassLabel(names=["neg", "pos"])
    features = datasets.Features({"text": value("string"), "label": label, "idx": value("int32")})
    rows = [{"text": f"text {number}", "label": number % 2, "idx": number} for number in range(count)]
    return datasets.Dataset.from_list(rows, features=features)


def test_classes_keep_their_names_in_a_data_set_and_in_a_stream() -> None:
    for source in (labelled(), labelled().to_iterable_dataset()):
        task = read_task(source)
        assert isinstance(task, LabelledTexts)
        assert (task.label_names, task.labels[:3], task.unused_columns) == (("neg", "pos"), (0, 1, 0), ("idx",))
    assert read_task(labelled().to_pandas()).answers[:2] == ("0", "1")  # a frame keeps the numbers alone


def test_a_dict_of_splits_gives_the_parts() -> None:
    whole = labelled()
    splits = datasets.DatasetDict(train=whole, validation=whole.select(range(5)), test=whole.select(range(3)))
    parts = read_task(splits).parts
    assert [parts.count(part) for part in ("train", "validation", "held_out")] == [8, 5, 3]
    assert len(read_task(datasets.DatasetDict(test=whole))) == 8
    others = datasets.DatasetDict(train_sft=whole, test_sft=whole)
    assert_told(others, "the splits 'train_sft', 'test_sft'", "'train': data['train_sft']")


def test_chats_and_tags() -> None:
    turns = [[{"role": "user", "content": f"hi {n}"}, {"role": "assistant", "content": "yes"}] for n in range(3)]
    assert isinstance(read_task(datasets.Dataset.from_list([{"messages": one} for one in turns])), Completions)
    tags = datasets.List(datasets.ClassLabel(names=["O", "B-X"]))
    features = datasets.Features({"tokens": datasets.List(datasets.Value("string")), "ner_tags": tags})
    rows = [{"tokens": ["a", f"b{number}"], "ner_tags": [0, 1]} for number in range(12)]
    task = read_task(datasets.Dataset.from_list(rows, features=features))
    assert isinstance(task, TaggedWords)
    assert task.label_names == ("B-X", "O")
    error = assert_told(datasets.Dataset.from_list(rows[:1] * 3, features=features), "the same words in all 3 rows")
    assert error.faults[0].expected == "at least 2 different words"
