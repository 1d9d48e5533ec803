"""The user's own parts: by a column, by files, by a dict of sources, and what is wrong with them."""

from collections import Counter
from pathlib import Path

import pytest

from helpers.faulty_files import GOOD, assert_told, write_json
from promptreach.data import LabelledTexts
from promptreach.rows.parts import part_of, sources_by_part
from promptreach.tables import read_task

MORE = [{"text": "so", "label": "pos"}]


@pytest.mark.parametrize(
    ("name", "part"),
    [("train", "train"), ("TRAINING", "train"), ("dev", "validation"), ("Val", "validation"), ("held-out", "held_out"),
     ("test", "held_out"), ("tset", None), (None, None), (3, None)],
)  # fmt: skip
def test_the_names_of_parts(name: object, part: str | None) -> None:
    assert part_of(name) == part


def test_columns_are_no_parts() -> None:
    assert sources_by_part({"text": [], "label": []}) is None
    assert sources_by_part([1]) is None
    assert sources_by_part({"train": 1, "dev": 2, "unsupervised": 3}) == (
        {"train": ("train", 1), "validation": ("dev", 2)},
        ["unsupervised"],
    )


def test_a_dict_of_sources_of_any_kind(tmp_path: Path) -> None:
    path = write_json(tmp_path / "a.jsonl", GOOD)
    task = read_task({"train": path, "dev": MORE, "test": (["x"], ["neg"]), "extra": MORE})
    assert isinstance(task, LabelledTexts)
    assert (task.texts, task.parts) == (("fine", "bad", "so", "x"), ("train", "train", "validation", "held_out"))
    assert task.part_sources == {
        "train": str(path),
        "validation": "data, split 'dev'",
        "held_out": "data, split 'test'",
    }
    assert "'extra' is no part" in task.remarks[0]
    assert task.take([3, 0]).parts == ("held_out", "train")


class _Split(list[dict[str, object]]):
    column_names = ("text", "label")


def test_a_split_of_another_name_is_taken_alone_and_named_among_others() -> None:
    task = read_task({"default": _Split(GOOD)})
    assert (len(task), task.parts, task.remarks) == (
        2,
        (),
        ("The rows are those of the split 'default', the only one.",),
    )
    splits = {"train_sft": _Split(GOOD), "test_sft": _Split(MORE)}
    assert_told(splits, "the splits 'train_sft', 'test_sft'", "{'train': data['train_sft'], 'test': data['test_sft']}")
    assert read_task({"train": splits["train_sft"], "test": splits["test_sft"]}).parts[-1] == "held_out"


def test_files_and_a_column_may_be_mixed_but_not_give_a_part_twice(tmp_path: Path) -> None:
    rows = [{**row, "split": "train"} for row in GOOD]
    assert Counter(read_task(rows, test=MORE).parts) == {"train": 2, "held_out": 1}
    assert_told({"train": GOOD, "test": MORE}, "test", "given, and a split of the data as well", test=MORE)
    assert_told([*rows, {**MORE[0], "split": "test"}], "two test parts", "Leave one of them out", test=MORE)
    assert_told(GOOD, "several splits", test={"train": GOOD, "test": MORE})
    assert read_task({"train": GOOD}).parts == ()


def test_what_is_wrong_with_a_part(tmp_path: Path) -> None:
    unlabelled = write_json(tmp_path / "t.jsonl", [{"text": "x", "label": None}, {"text": "y", "label": None}])
    assert_told(GOOD, "t.jsonl", "no label in any of its 2 rows", "Leave this part out", test=unlabelled)
    task = read_task({"train": GOOD, "test": [{"text": "x", "label": None}]})
    assert "has a label, so it was not used" in task.remarks[0]
    assert task.parts == ()
    assert_told(GOOD, "no column for the label", test=[{"text": "x"}])
    assert_told(GOOD, "rows of completions", "rows of labels", test=[{"prompt": "a", "completion": "b"}])
    assert_told(GOOD, "No such file", test=str(tmp_path / "none.csv"))
    told = assert_told(GOOD, "test part", "'new' (row 1)", "Add rows of it", test=[{"text": "x", "label": "new"}])
    assert len(told.faults) == 1
    no_train = [{**row, "split": "test"} for row in GOOD]
    assert_told(no_train, "no row of the training part")
    blank = [*({**row, "part": "train"} for row in GOOD), {**MORE[0], "part": None}]
    assert_told(blank, "None (row 3)", "Rename the value", split_col="part")


def test_a_record_says_its_parts_itself() -> None:
    record = LabelledTexts(("a", "b"), (0, 1), ("x", "y"))
    assert len(assert_told(record, "given along with a task record", test=MORE, split_col="a").faults) == 2
