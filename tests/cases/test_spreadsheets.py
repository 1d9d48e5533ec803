"""Labels and line ends as spreadsheets write them are named for what they are, in CSV and JSON alike."""

import json
from pathlib import Path
from typing import Any

import pytest

from promptreach.errors import DataError
from promptreach.tables import read_task

ROWS = 12


def csv(path: Path, labels: list[str], end: str = "\n") -> Path:
    lines = ["text,label", *(f"text {index},{labels[index % len(labels)]}" for index in range(ROWS))]
    path.write_bytes((end.join(lines) + end).encode())
    return path


def jsonl(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def labelled(path: Path, labels: list[Any]) -> Path:
    return jsonl(path, [{"text": f"text {i}", "label": labels[i % len(labels)]} for i in range(ROWS)])


def refused(path: Path) -> str:
    with pytest.raises(DataError) as error:
        read_task(path)
    assert len(error.value.faults) == 1
    return str(error.value)


@pytest.mark.parametrize("end", ["\r", "\r\r"])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_carriage_returns_alone(tmp_path: Path, end: str, name: str) -> None:
    text = refused(csv(tmp_path / name, ["yes", "no"], end))
    assert "end in a carriage return" in text
    assert "quot" not in text


def test_carriage_returns_behind_a_good_header_and_in_json(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"text,label\na,yes\rb,no\rc,yes\n")
    with pytest.raises(DataError, match="end in a carriage return"):
        read_task(tmp_path / "a.csv")
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "a", "label": 1}\r{"text": "b", "label": 0}\r')
    assert "end in a carriage return" in refused(tmp_path / "a.jsonl")


def test_windows_line_ends_are_read(tmp_path: Path) -> None:
    assert len(read_task(csv(tmp_path / "a.csv", ["yes", "no"], "\r\n"))) == ROWS


@pytest.mark.parametrize("labels", [[0.0, 1.0], [1.0, 2.0, 3.0], [-1.0, 1.0]])
def test_whole_numbers_with_a_point_are_labels_in_both_formats(tmp_path: Path, labels: list[float]) -> None:
    found = [
        read_task(csv(tmp_path / "a.csv", [str(label) for label in labels])),
        read_task(labelled(tmp_path / "a.jsonl", labels)),
    ]
    assert len({tuple(map(str, data.answers)) for data in found}) == 1


def test_a_column_of_scores_is_read_as_numbers(tmp_path: Path) -> None:
    assert read_task(labelled(tmp_path / "a.jsonl", [0.25, 0.5])).kind == "number"


@pytest.mark.parametrize("gap", ["nan", "NaN", "None", "null", "n/a", "-1", -1])
def test_a_label_that_may_be_none_is_remarked(tmp_path: Path, gap: Any) -> None:
    rest = [0, 1] if isinstance(gap, int) else ["yes", "no"]
    data = read_task(labelled(tmp_path / "a.jsonl", [gap, *rest]))
    assert len(data.remarks) == 1
    assert f"{gap!r} (in 4 of 12 rows, first in row 1)" in data.remarks[0]
    assert data.take([0, 1]).remarks == data.remarks


@pytest.mark.parametrize("labels", [["yes", "no"], ["banana", "nano"], ["1", "0"]])
def test_plain_labels_are_not(tmp_path: Path, labels: list[str]) -> None:
    assert read_task(csv(tmp_path / "a.csv", labels)).remarks == ()


@pytest.mark.parametrize("labels", [["No", "no", "yes"], ["A", "a"], ["Straße", "STRASSE", "x"]])
def test_labels_that_differ_in_case_only(tmp_path: Path, labels: list[str]) -> None:
    assert "differ in more than upper and lower case" in refused(csv(tmp_path / "a.csv", labels))


def test_what_the_hint_says_works(tmp_path: Path) -> None:
    records = [{"instruction": f"say {i}", "output": str(i)} for i in range(4)]
    path = jsonl(tmp_path / "a.jsonl", records)
    assert len(read_task(path, prompt_col="instruction", completion_col="output")) == 4
