"""The store under every kind of finished result: what is written is read, and what is broken is not there."""

import json
from pathlib import Path

import pytest
import torch

from promptreach.errors import OutputError
from promptreach.training.store import Store, read_tensors

GROUPS = {"one": {"a": torch.arange(6.0).view(2, 3).T, "b.c": torch.ones(1)}, "two": {"a": torch.zeros(2)}}


def read_json(file: Path) -> object:
    return json.loads(file.read_text("utf-8"))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    store = Store(tmp_path / "new")
    store.write("folder/record.json", "[1, 2]")
    store.write_tensors("tensors", GROUPS, {"steps": 3})
    assert store.load("folder/record.json", read_json) == [1, 2]
    found = store.load("tensors", read_tensors)
    assert found is not None
    groups, record = found
    assert record == {"steps": 3}
    assert groups.keys() == GROUPS.keys()
    for name, part in GROUPS.items():
        assert groups[name].keys() == part.keys()
        assert all(torch.equal(groups[name][key], part[key]) for key in part)


def test_without_a_folder_nothing_is_kept() -> None:
    store = Store(None)
    store.write("record.json", "{}")
    store.write_tensors("tensors", GROUPS)
    store.clean()
    assert store.load("record.json", read_json) is None


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff", b"12345678901234567890"])
def test_what_is_damaged_is_not_there(damage: bytes, tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write("broken", damage)
    assert store.load("broken", read_tensors) is None
    assert store.load("missing", read_tensors) is None
    with pytest.raises(RuntimeError):  # what is no damage of a file is not hidden
        store.load("broken", lambda path: (_ for _ in ()).throw(RuntimeError))


def test_a_key_changes_with_whatever_decides() -> None:
    parts = [(1, "a"), (2, "a"), (1, "b"), (1, ["a"]), (1, "a", {"c": None}), (1, "a", {"c": 0})]
    assert len({Store.key(*part) for part in parts}) == len(parts)
    assert Store.key({"a": 1, "b": 2}) == Store.key({"b": 2, "a": 1})


def test_a_file_where_a_folder_is_needed_is_an_output_error(tmp_path: Path) -> None:
    Store(tmp_path).write("name", "")
    with pytest.raises(OutputError, match="a file stands where a folder is needed"):
        Store(tmp_path).write("name/record.json", "{}")
