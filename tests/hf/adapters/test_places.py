"""A place that is no adapter's folder is refused with the one that lies near."""

from pathlib import Path

import pytest

from promptreach.hf.adapters.places import CONFIG, WEIGHTS, file_faults, place_faults


def adapter(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / CONFIG).write_text("{}")
    (folder / WEIGHTS).write_bytes((2).to_bytes(8, "little") + b"{}")
    return folder


@pytest.mark.parametrize(
    ("below", "given", "message"),
    [
        (["checkpoint-500", "checkpoint-1000"], ".", "it lies in checkpoint-1000 and checkpoint-500 below"),
        (["mytask"], ".", "it lies in mytask below"),
        (["last/mytask", "first/mytask"], ".", "it lies in last/mytask and first/mytask below"),
        (["c-9", "c-10", "c-8"], ".", "it lies in c-10, c-9 and c-8 below"),
        (["out"], f"out/{WEIGHTS}", "Give the folder, not the file"),
        (["out"], f"out/{CONFIG}", "Give the folder, not the file"),
        (["out"], "nowhere", "no such folder"),
        ([], ".", "it holds nothing"),
    ],
)
def test_a_wrong_place_says_what_is_near(tmp_path: Path, below: list[str], given: str, message: str) -> None:
    for name in below:
        adapter(tmp_path / name)
    (fault,) = file_faults(tmp_path / given)
    assert message in str(fault)


def test_an_adapters_folder_has_no_fault(tmp_path: Path) -> None:
    assert file_faults(adapter(tmp_path / "a")) == []


def test_half_an_adapter_is_a_matter_of_its_files(tmp_path: Path) -> None:
    (adapter(tmp_path / "a") / WEIGHTS).unlink()
    assert place_faults(tmp_path / "a") == []
    assert "no such file" in str(file_faults(tmp_path / "a")[0])
