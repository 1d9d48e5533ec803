"""Parts, weights, numbers and columns that nothing can be made of: refused by name, never dropped or misread."""

from pathlib import Path

import pytest

from helpers.faulty_files import GOOD, assert_told, write_csv
from promptreach.tables import read_task


@pytest.mark.parametrize(
    ("name", "content"), [("e.csv", ""), ("e.csv", "text,label\n"), ("e.json", "[]"), ("e.jsonl", "")]
)
@pytest.mark.parametrize("part", ["validation", "test"])
def test_a_part_without_rows_is_refused(name: str, content: str, part: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    assert_told(
        GOOD, name, f"no rows; expected rows of the {part} part", "Leave this part out", **{part: tmp_path / name}
    )
    assert_told(GOOD, f"{part}: no rows", **{part: []})
    assert_told({"train": GOOD, part: []}, f"split {part!r}: no rows")


@pytest.mark.parametrize("weight", [10**400, 1e308, 1e-320, -1, float("inf"), "much", None])
def test_weights_beyond_all_bounds(weight: object) -> None:
    rows = [{**row, "weight": 1} for row in GOOD] + [{"text": "so so", "label": "neg", "weight": weight}]
    assert_told(rows, "row 3, column 'weight'", "0, or from 1e-30 to 1e+30", "drop the column")


@pytest.mark.parametrize("label", [10**400, 10**5000, [10**5000]], ids=["long", "endless", "listed"])
def test_integers_longer_than_any_number(label: object) -> None:
    assert_told(
        [*GOOD, {"text": "so so", "label": label}], "row 3, column 'label'", "more than 300 digits", "as strings"
    )
    told = "among the tags"
    assert_told([{"tokens": ["a"], "ner_tags": [10**5000]}, {"tokens": ["b"], "ner_tags": [1]}], "row 1", told)


@pytest.mark.parametrize(
    ("numbers", "parts"),
    [
        ([0.5, 1e31], ("the number 1e+31 (row 2)", "Divide all numbers")),
        ([0.5, -1e200], ("the number -1e+200 (row 2)", "Divide all numbers")),
        ([0, 1e-320], ("numbers from 0 to 9.99", "further apart", "multiply")),
        ([1.7e9, 1.7e9 + 1], ("numbers from 1700000000 to 1700000001", "Subtract the same number from all")),
    ],
)
def test_numbers_that_single_precision_cannot_tell(numbers: list[float], parts: tuple[str, ...]) -> None:
    assert_told((["a", "b"], numbers), "column 'label'", *parts, label_kind="number")


@pytest.mark.parametrize(
    ("cells", "labels"),
    [
        (["9007199254740993.0", "9007199254740992.0"], {"9007199254740993", "9007199254740992"}),
        (["1" * 400 + ".0", "1" * 399 + "2.0"], {"1" * 400 + ".0", "1" * 399 + "2.0"}),
    ],
)
def test_long_whole_numbers_stay_apart(cells: list[str], labels: set[str], tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", [("text", "label"), ("a", cells[0]), ("b", cells[1])])
    assert set(read_task(path).answers) == labels


def test_a_second_text_in_one_part_only_is_refused() -> None:
    pairs = [{**row, "text2": "other"} for row in GOOD]
    assert_told(pairs, "test: no second text, and data has one in its column 'text2'", "drop it", test=GOOD)
    assert_told(GOOD, "data: no second text, and test has one in its column 'text2'", test=pairs)
    assert_told({"train": GOOD, "test": pairs}, "split 'train': no second text")
    assert len(read_task(pairs, test=pairs)) == 4


def test_columns_that_would_hide_each_other_are_refused() -> None:
    assert_told({"text": ["a", "b"], 1: ["x", "y"], "1": ["u", "v"]}, "columns of the same name: 1, '1'", label_col="1")


@pytest.mark.parametrize("role", ["text", "label", "pair", "split", "prompt", "options", "answers"])
def test_a_column_without_a_name_is_refused_and_stands_for_no_usual_one(role: str) -> None:
    assert_told(GOOD, f"{role}_col: an empty name; expected the name of a column", **{f"{role}_col": ""})


def test_a_name_that_is_too_long_for_a_file() -> None:
    assert_told("a" * 5000 + ".csv", "cannot be read")


@pytest.mark.parametrize("kind", ["timestamp", "date32", "duration", "zone"])
@pytest.mark.parametrize("is_file", [True, False])
def test_dates_beyond_python_are_told_with_their_column(kind: str, is_file: bool, tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    types = {"timestamp": (2**62, arrow.timestamp("us")), "date32": (2**30, arrow.date32())}
    types |= {"duration": (2**62, arrow.duration("s")), "zone": (1, arrow.timestamp("us", "Nowhere/Bad"))}
    value, of = types[kind]
    table = arrow.table({"text": ["a", "b"], "label": arrow.array([value, value], of)})
    parquet.write_table(table, tmp_path / "a.parquet")
    source = tmp_path / "a.parquet" if is_file else table
    assert_told(source, "column 'label'", "cannot be read", "values that Python can hold", "drop the column")
