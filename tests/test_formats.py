"""Versions of records: the right one is read, any other is refused with both numbers, and so is what is no record."""

import json
from pathlib import Path

import pytest

from promptreach.errors import FormatError, InputError
from promptreach.formats import check_version, read_record


def test_a_record_of_the_version_that_is_read_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_text(json.dumps({"version": 3, "ä": [1, None]}), encoding="utf-8")
    assert read_record(path, 3, "version") == read_record(str(path), 3, "version") == {"version": 3, "ä": [1, None]}


@pytest.mark.parametrize("record", [{"schema_version": 1}, {"schema_version": True}, {"version": 2}, [2], None, "2"])
def test_another_version_or_none_is_refused(record: object) -> None:
    check_version({"schema_version": 2}, 2, "it")
    with pytest.raises(FormatError, match=r"^it: schema_version .*; expected schema_version 2\. Read it with"):
        check_version(record, 2, "it")


def test_true_is_no_version_one() -> None:
    with pytest.raises(FormatError, match="schema_version True"):
        check_version({"schema_version": True}, 1, "it")


@pytest.mark.parametrize(("content", "said"), [(b"{", "JSON"), (b"\xff", "JSON"), (None, "a readable record.json")])
def test_what_cannot_be_read_is_named_with_its_path(content: bytes | None, said: str, tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=said) as caught:
        read_record(path, 1)
    assert caught.value.faults[0].where == str(path)
    assert not isinstance(caught.value, FormatError)
