"""What `read_task` accepts, and that every wrong value or column is told with its place and what to do about it."""

import bz2
import gzip
import json
import lzma
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers.faulty_files import GOOD, assert_told, write_csv, write_json
from promptreach import tables
from promptreach.data import Completions, LabelledTexts
from promptreach.errors import DataError
from promptreach.tables import read_task


def test_assert_told_fails_when_parts_stand_in_different_faults_or_nothing_is_wrong() -> None:
    rows = [{"text": "", "label": 1}, {"text": "a", "label": None}]
    assert_told(rows, "row 1", "column 'text'")
    with pytest.raises(AssertionError):
        assert_told(rows, "row 1", "column 'label'")
    with pytest.raises(pytest.fail.Exception):
        assert_told(GOOD, "row 1")


# What is accepted ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".jsonl", ".ndjson", ".json", ".JSONL"])
def test_json_lines(tmp_path: Path, suffix: str) -> None:
    path = write_json(tmp_path / f"reviews{suffix}", GOOD)
    task = read_task(path)
    assert task == LabelledTexts(("fine", "bad"), (1, 0), ("neg", "pos"), str(path), (1, 2))
    assert read_task(str(path)) == task


@pytest.mark.parametrize(("suffix", "delimiter"), [(".csv", ","), (".tsv", "\t")])
def test_delimited_text_with_a_byte_order_mark_and_blank_lines(tmp_path: Path, suffix: str, delimiter: str) -> None:
    path = tmp_path / f"reviews{suffix}"
    text = 'text,label\r\n\r\n"two\nlines",10\r\nplain,9\r\n\r\n'.replace(",", delimiter)
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    task = read_task(path)
    assert task.inputs == ("two\nlines", "plain")
    assert task.answers == ("10", "9")
    assert task.rows == (1, 2)


@pytest.mark.parametrize(
    ("suffix", "compress"), [(".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)]
)
def test_compressed(tmp_path: Path, suffix: str, compress: Callable[[bytes], bytes]) -> None:
    for stem, content in (("a.csv", "text,label\nfine,pos\nbad,neg\n"), ("a.jsonl", "\n".join(map(json.dumps, GOOD)))):
        path = tmp_path / f"{stem}{suffix}"
        path.write_bytes(compress(content.encode()))
        assert read_task(path).inputs == ("fine", "bad")


def test_parquet_keeps_the_order_of_the_wanted_columns(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "reviews.parquet"
    parquet.write_table(pyarrow.table({"label": [10, 9], "extra": [0.5, 1.5], "text": ["fine", "bad"]}), path)
    task = read_task(path)
    assert (task.inputs, task.answers, task.rows) == (("fine", "bad"), ("10", "9"), (1, 2))


def test_completions_and_columns_named_by_the_caller(tmp_path: Path) -> None:
    path = write_json(
        tmp_path / "a.jsonl", [{"prompt": "1+1=", "completion": "2"}, {"prompt": "2+2=", "completion": "4"}]
    )
    assert read_task(path) == Completions(("1+1=", "2+2="), ("2", "4"), str(path), (1, 2))
    swapped = read_task(path, prompt_col="completion", completion_col="prompt")
    assert (swapped.inputs, swapped.answers) == (("2", "4"), ("1+1=", "2+2="))
    assert isinstance(read_task(path, text_col="prompt", label_col="completion"), LabelledTexts)


def test_one_named_column_settles_the_kind_and_the_other_is_found() -> None:
    records = [{**record, "prompt": "p", "completion": "c", "body": record["text"] + "!"} for record in GOOD]
    task = read_task(records, text_col="body")
    assert (task.inputs, task.answers) == (("fine!", "bad!"), ("pos", "neg"))


def test_integer_labels_are_sorted_as_numbers_and_shown_as_strings() -> None:
    task = read_task((["a", "b", "c", "d"], [10, 9, -1, 10]))
    assert isinstance(task, LabelledTexts)
    assert (task.label_names, task.labels) == (("-1", "9", "10"), (2, 1, 0, 2))


@pytest.mark.parametrize(
    "source",
    [
        GOOD,
        iter(GOOD),
        {"text": ["fine", "bad"], "label": ["pos", "neg"]},
        (["fine", "bad"], ["pos", "neg"]),
        (("fine", "bad"), np.array(["pos", "neg"])),
    ],
)
def test_memory(source: object) -> None:
    assert read_task(source) == LabelledTexts(("fine", "bad"), (1, 0), ("neg", "pos"), "data", (1, 2))


class _Frame:
    """A frame with the methods that pandas and polars share."""

    def __init__(self, columns: dict[str, list[object]]) -> None:
        self.columns, self.iloc = list(columns), None
        self._values = columns

    def __getitem__(self, column: str) -> types.SimpleNamespace:
        return types.SimpleNamespace(to_list=lambda: self._values[column])


class NAType:
    """A gap as pandas marks one."""


def test_frames_are_read_as_their_columns() -> None:
    frame = _Frame({"text": ["fine", "bad"], "label": [np.bool_(True), False], "id": [1, 2]})
    task = read_task(frame)
    assert (task.answers, task.unused_columns) == (("True", "False"), ("id",))
    lazy = types.SimpleNamespace(collect_schema=None, collect=lambda: frame)
    assert read_task(lazy) == task
    assert read_task({"train": frame, "test": frame}).parts == ("train", "train", "held_out", "held_out")
    first, second = ([{"role": "user", "content": text}, {"role": "gpt", "content": "b"}] for text in ("a", "c"))
    assert read_task(_Frame({"messages": [np.array(first), second]})).answers == ("b", "b")
    assert_told(_Frame({"text": ["a", "b"], "label": [NAType(), 1]}), "row 1, column 'label'", "no value")
    twice = _Frame({"text": ["a", "b"]})
    twice.columns = ["text", "text"]
    assert_told(twice, "columns of the same name: 'text'", "Rename or drop")


def test_an_arrow_table_is_read_as_its_columns() -> None:
    pyarrow = pytest.importorskip("pyarrow")
    task = read_task(pyarrow.table({"text": ["fine", "bad"], "label": [True, False]}))
    assert (task.inputs, task.answers) == (("fine", "bad"), ("True", "False"))


def test_numbers_of_numpy_and_torch_are_labels() -> None:
    for labels in (np.array([3, 1]), torch.tensor([3, 1]), [np.int64(3), np.int64(1)]):
        assert read_task((["a", "b"], labels)).answers == ("3", "1")


def test_a_task_record_is_returned_as_it_is() -> None:
    task = LabelledTexts(("a", "b", "c"), (0, 1, 0), ("x", "y"))
    assert read_task(task) is task


def test_a_class_with_one_row_is_allowed() -> None:
    assert read_task((["a", "b", "c"], ["x", "x", "y"])).answers == ("x", "x", "y")


text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])).filter(lambda s: s.strip())


@given(st.lists(st.tuples(text, text), min_size=2, max_size=8, unique_by=lambda row: row[0]), st.data())
def test_any_texts_survive_the_way_through_a_file(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("trip")
    kind = data.draw(st.sampled_from(["csv", "tsv", "jsonl", "jsonl.gz"]))
    if kind == "jsonl.gz":
        lines = "".join(json.dumps({"prompt": a, "completion": b}, ensure_ascii=False) + "\n" for a, b in rows)
        (path / "a.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    elif kind == "jsonl":
        write_json(path / "a.jsonl", [{"prompt": a, "completion": b} for a, b in rows])
    else:
        write_csv(path / f"a.{kind}", [("prompt", "completion"), *rows], "," if kind == "csv" else "\t")
    task = read_task(path / f"a.{kind}")
    assert list(zip(task.inputs, task.answers, strict=True)) == rows
    assert task.rows == tuple(range(1, len(rows) + 1))


# Rows and columns ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        ("", "an empty string"),
        (" \n\t", "only white space"),
        (None, "no value (None)"),
        (float("nan"), "no value (nan)"),
        (3, "3 (int)"),
        (2.5, "2.5 (float)"),
        (["a"], "['a'] (list)"),
        ({"a": 1}, "{'a': 1} (dict)"),
        (b"bytes", "b'bytes' (bytes)"),
        ("x" * 10_000_000, "10,000,000 characters: 'xxx"),
    ],
)
def test_texts_that_are_not(value: object, seen: str) -> None:
    rows = [{"text": "a", "label": 0}, {"text": value, "label": 1}, {"text": "b", "label": 1}]
    error = assert_told(rows, "data, row 2, column 'text'", seen)
    assert len(error.faults) == 1
    assert error.faults[0].remedy
    pairs = [{"prompt": "a", "completion": "b"}, {"prompt": "b", "completion": value}]
    assert_told(pairs, "row 2, column 'completion'", seen)


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        ("", "an empty string"),
        ("  ", "only white space"),
        (None, "no value (None)"),
        (float("nan"), "no value (nan)"),
        (float("inf"), "inf (float)"),
        ([""], "an empty string"),
        ([None], "[None] (list)"),
        (np.array([[1], [2]]), "[[1], [2]] (list)"),
    ],
)
def test_labels_that_are_not(tmp_path: Path, value: object, seen: str) -> None:
    rows = [{"text": "a", "label": 0}, {"text": "b", "label": value}, {"text": "c", "label": 1}]
    assert_told(rows, "data, row 2, column 'label'", seen)
    if not isinstance(value, np.ndarray):
        path = write_json(tmp_path / "reviews.jsonl", rows)
        assert_told(path, "reviews.jsonl, row 2, column 'label' (line 2)", seen)


def test_a_row_without_the_column(tmp_path: Path) -> None:
    path = write_json(tmp_path / "a.jsonl", [GOOD[0], {"text": "b"}, {}])
    error = assert_told(path, "a.jsonl, row 2, column 'label' (line 2)", "does not have this column", "Add it")
    assert len(error.faults) == 3


def test_all_faults_come_at_once_and_the_rest_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text,label\n,\n" + "a,b,c\n" * 5 + ",x\n" * 1000)
    with pytest.raises(DataError) as caught:
        read_task(path)
    faults = [str(fault) for fault in caught.value.faults]
    assert len(faults) == tables.SHOWN_FAULTS + 1
    assert "row 1, column 'text'" in faults[0]
    assert "row 1, column 'label'" in faults[1]
    assert "987 more faults" in faults[-1]


@pytest.mark.parametrize(
    ("labels", "parts"),
    [
        (["x", 1, "x"], ("both integers and strings", "1 (row 2)", "'x' (row 1)", "Write all labels")),
        (["x", "x", "x"], ("the one label 'x' in all 3 rows", "at least 2 different labels", "another label")),
        (["x", "y", "x "], ("'x' (row 1) and 'x ' (row 3)", "white space", "Strip")),
        ([0, [1], 1], ("lists in 1 of 3 rows, first in row 2", "a list of one")),
        ([[0], [1, 2], np.array(1)], ("single labels in 1 of 3 rows, first in row 3",)),
        ([[], [], []], ("no label in any row",)),
        ([f"id {i}" for i in range(30)], ("30 different labels in 30 rows", "identifier?")),
    ],
)
def test_labels_that_do_not_fit_together(labels: list[object], parts: tuple[str, ...]) -> None:
    assert_told(([f"t{i}" for i in range(len(labels))], labels), "data, column 'label'", *parts)


def test_labels_that_all_begin_with_a_space_are_allowed() -> None:
    assert read_task((["a", "b"], [" yes", " no"])).answers == (" yes", " no")


def test_one_text_in_all_rows_cannot_be_split() -> None:
    assert_told((["a", "a", "a"], [0, 1, 0]), "column 'text'", "the same text in all 3 rows", "2 different texts")


@pytest.mark.parametrize(
    ("columns", "options", "parts"),
    [
        (("Texts", "label"), {}, ("no column for the text", "'Texts', 'label'", "text_col", "Did you mean 'Texts'?")),
        (("text", "Label", "LABEL"), {}, ("2 columns that may be the label: 'Label', 'LABEL'",)),
        (("text", "lable"), {}, ("no column for the label", "--label-col", "Did you mean 'lable'?")),
        (("body", "label"), {"text_col": "bodi"}, ("no column 'bodi'", "'body', 'label'", "Did you mean 'body'?")),
        (("text", "review", "label"), {}, ("2 columns that may be the text: 'text', 'review'", "text_col")),
        (("prompt", "answer"), {}, ("no column for the completion", "completion_col")),
        (("a", "b"), {}, ("the columns 'a', 'b'", "a text and a label, or a prompt and a completion", "text_col")),
        (("Prompts", "Completions"), {}, ("Did you mean 'Prompts' or 'Completions'?",)),
        (("text", "label", "prompt", "completion"), {}, ("the columns 'text', 'label'", "one task", "text_col")),
        (("a", "b"), {"text_col": "a", "prompt_col": "b"}, ("names for both kinds of task", "prompt_col")),
        (("a", "b"), {"text_col": "a", "label_col": "a"}, ("text and label", "the column 'a'", "two different")),
        (("text", "text", "label"), {}, ("2 columns that may be the text: 'text', 'text'",)),
        (("text;label",), {}, ("'text;label'", "separated by ';'", "commas")),
    ],
)
def test_columns(tmp_path: Path, columns: tuple[str, ...], options: dict[str, str], parts: tuple[str, ...]) -> None:
    path = write_csv(tmp_path / "a.csv", [columns, [f"a{c}" for c in columns], [f"b{c}" for c in columns]])
    error = assert_told(path, "a.csv", *parts, **options)
    assert len(error.faults) == 1


def test_column_faults_and_broken_rows_come_together(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("texts,label\na,b\nc\n")
    assert len(assert_told(path, "row 2 (line 3)", "1 cells").faults) == 2


def test_columns_of_json_are_those_of_the_first_rows_together() -> None:
    assert read_task([{"id": 1, **GOOD[0]}, GOOD[1]]).inputs == ("fine", "bad")
    assert_told([{"text": "a"}, *GOOD], "data, row 1, column 'label'", "does not have this column")


def test_long_and_many_column_names_stay_readable() -> None:
    assert_told([{f"column {i} {'x' * 500}": 1 for i in range(100)}], "88 more")


# Memory and the hub -------------------------------------------------------------------------------------------------


def test_memory_of_the_wrong_form() -> None:
    assert_told(3, "data", "3 (int)", "a list of dicts", "a pair (texts, labels)")
    assert_told(b"reviews.csv", "(bytes)", "a path")
    assert_told([GOOD[0], "text"], "data, row 2", "'text' (str)", "a pair (texts, labels)")
    assert_told((["a", "b"], [1]), "different lengths", "text: 2", "label: 1")
    assert_told({"text": "ab", "label": [1, 2]}, "column 'text'", "'ab'", "a list")


def test_a_hub_id_without_the_datasets_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert_told("owner/name", "owner/name", "no such file", "datasets", 'pip install "datasets>=4"')


def test_only_what_looks_like_an_id_goes_to_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    for name in ("reviews", "owner/reviews.csv", "owner/reviews.jsonl.gz", "data/reviews", "a/b/c", "../reviews"):
        assert_told(name, name, "No such file")
    assert_told(Path("owner/name"), "No such file")


class _Hub(list[dict[str, object]]):
    column_names = ("text", "label", "id")
    features = types.MappingProxyType(
        {"text": object(), "label": types.SimpleNamespace(names=["neg", "pos"]), "id": object()}
    )

    def select_columns(self, names: list[str]) -> list[dict[str, object]]:
        return [{name: record[name] for name in names} for record in self]


def _with_hub(monkeypatch: pytest.MonkeyPatch, load: Callable[..., object]) -> None:
    module = types.ModuleType("datasets")
    module.load_dataset = load  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", module)


def test_a_hub_dataset_gives_its_class_names(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = _Hub([{"text": "fine", "label": 1, "id": 7}, {"text": "bad", "label": 0, "id": 8}])
    _with_hub(monkeypatch, lambda name, config, split, revision: {"train": hub} if name == "owner/name" else None)
    assert read_task("owner/name") == LabelledTexts(("fine", "bad"), (1, 0), ("neg", "pos"), "owner/name", (1, 2))
    assert read_task(hub).answers == ("pos", "neg")
    hub.append({"text": "unlabelled", "label": -1, "id": 9})
    assert_told("owner/name", "owner/name, row 3, column 'label'", "no value")


def test_a_hub_name_says_config_revision_and_split(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    train = _Hub([{"text": "fine", "label": 1, "id": 7}, {"text": "bad", "label": 0, "id": 8}])
    hidden = _Hub([{"text": "unknown", "label": -1, "id": 9}])

    def load(name: str, config: str | None, split: str | None, revision: str | None) -> object:
        asked.append((name, config, revision, split))
        return {"train": train, "validation_matched": train, "test": hidden} if split is None else train

    _with_hub(monkeypatch, load)
    task = read_task("owner/name:sst2@v1.0", validation="owner/name:sst2#validation_matched")
    assert asked == [("owner/name", "sst2", "v1.0", None), ("owner/name", "sst2", None, "validation_matched")]
    assert task.parts == ("train", "train", "validation", "validation")
    assert task.part_sources["validation"] == "owner/name:sst2#validation_matched"
    assert ("validation_matched" in task.remarks[0], "has a label" in task.remarks[1]) == (True, True)
    assert (task.source, task.unused_columns) == ("owner/name:sst2@v1.0", ("id",))
    assert_told("owner/name:sst2", "several splits", "#validation", test="owner/name")


def test_a_hub_dataset_that_does_not_load(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str, config: str | None, **options: object) -> object:
        raise RuntimeError(f"no config {config}" + "x" * 10_000)

    _with_hub(monkeypatch, load)
    assert_told("owner/name", "owner/name", "does not load", "no config None", "give the file")


@pytest.mark.parametrize("huge", ["x" * 10**7, {i: ["x" * 100] * 100 for i in range(1000)}, ["x" * 10**7]])
def test_messages_never_hold_a_huge_value(huge: object) -> None:
    error = assert_told([{"text": huge, "label": 1}, {"text": "fine", "label": 0}], "row 1", "column 'text'")
    assert "x" * 60 not in str(error)


def test_reading_imports_nothing_heavy() -> None:
    code = "import sys, promptreach.tables; print([m for m in ('pyarrow', 'datasets', 'pandas') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
