"""The store under every kind of finished result: what is written is read, and what is broken is not there."""

import json
import logging
import random
import shutil
from pathlib import Path

import pytest
import torch

from promptreach.errors import OutputError
from promptreach.training.store import Store, read_stored, read_tensors

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


def damaged(content: bytes, draw: random.Random) -> bytes:
    """The same with one byte changed, or cut, or with something behind it."""
    kind, at = draw.randrange(4), draw.randrange(len(content))
    if kind == 0:
        return content[:at]
    if kind == 1:
        return content + b"x"
    return content[:at] + bytes([content[at] ^ (1 << draw.randrange(8))]) + content[at + 1 :]


def test_no_damage_changes_what_is_read_without_a_word(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store, draw = Store(tmp_path), random.Random(0)
    store.write_record("a/record.json", {"curve": [1.5, None], "name": "x"})
    store.write_tensors("a/tensors", GROUPS, {"steps": 3})
    whole = {name: (tmp_path / name).read_bytes() for name in ("a/record.json", "a/tensors")}
    told = 0
    for index in range(200):
        name = ("a/record.json", "a/tensors")[index % 2]
        (tmp_path / name).write_bytes(damaged(whole[name], draw))
        caplog.clear()
        found = store.load(name, read_stored if name.endswith("json") else read_tensors)
        if found is None:
            assert "is not as it was written and is worked out again" in caplog.text
            told += 1
        elif name.endswith("json"):  # white space
            assert found == {"curve": [1.5, None], "name": "x"}
        else:
            assert torch.equal(found[0]["one"]["a"], GROUPS["one"]["a"])
    assert told > 150


@pytest.mark.parametrize("name", ["record.json", "tensors"])
def test_what_lies_in_the_place_of_another_is_told(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = Store(tmp_path)
    for place in ("a", "b"):
        store.write_record(f"{place}/record.json", {"of": "both"})
        store.write_tensors(f"{place}/tensors", GROUPS)
    shutil.copy(tmp_path / "a" / name, tmp_path / "b" / name)
    with caplog.at_level(logging.WARNING):
        assert store.load(f"b/{name}", read_stored if name.endswith("json") else read_tensors) is None
    assert str(tmp_path / "b" / name) in caplog.text
    moved = shutil.move(tmp_path, tmp_path.with_name("moved"))
    assert Store(Path(moved)).load("a/record.json", read_stored) == {"of": "both"}


def test_tensors_are_tied_to_the_record_that_names_their_digest(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first = store.write_tensors("a/tensors", GROUPS)
    second = store.write_tensors("a/tensors", {"one": {"a": torch.ones(1)}})
    assert first != second
    assert read_tensors(tmp_path / "a" / "tensors", second)
    with pytest.raises(ValueError, match="digest"):
        read_tensors(tmp_path / "a" / "tensors", first)


def test_a_store_lies_where_no_text_can_name_it(tmp_path: Path) -> None:
    store = Store(tmp_path / "bad\udcff")
    store.write_tensors("a/tensors", GROUPS)
    assert store.load("a/tensors", read_tensors) is not None
