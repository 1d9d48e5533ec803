"""Records that programs read stay readable: today's readers on committed samples, today's writers against them."""

import json
import shutil
from contextlib import chdir
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from helpers.release_samples import FORMATS, GOLDEN
from promptreach.certificate import Certificate
from promptreach.errors import FormatError, InputError

NAMES = list(FORMATS)


def golden(name: str) -> Path:
    return GOLDEN / name / FORMATS[name].file


def record_of(path: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return record


def changed(name: str, folder: Path, change: dict[str, Any], dropped: str = "") -> Path:
    """A copy of a golden sample with some fields changed or one dropped."""
    path = shutil.copytree(golden(name).parent, folder / name) / FORMATS[name].file
    record = record_of(path) | change
    record.pop(dropped, None)
    path.write_text(json.dumps(record), encoding="utf-8")
    return path


def shape(value: Any, where: str = "") -> set[str]:
    """Every place of a record with the kind of what stands there; the items of a list are taken together."""
    if isinstance(value, dict):
        inside = [shape(item, f"{where}.{key}") for key, item in value.items()]
        return {where}.union(*inside)
    if isinstance(value, list):
        return {where}.union(*(shape(item, f"{where}[]") for item in value))
    if value is None:
        return {where}
    kind = "number" if isinstance(value, (int, float)) and not isinstance(value, bool) else type(value).__name__
    return {where, f"{where}: {kind}"}


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The same samples as this release writes them."""
    found = {}
    for name, kind in FORMATS.items():
        with chdir(tmp_path_factory.mktemp(name)):
            kind.write()
            found[name] = record_of(Path(kind.file))
    return found


@pytest.mark.parametrize("name", NAMES)
def test_todays_reader_reads_the_committed_sample(name: str) -> None:
    assert record_of(golden(name))[FORMATS[name].key] == FORMATS[name].version
    assert FORMATS[name].read(golden(name)) is not None


@pytest.mark.parametrize("name", NAMES)
def test_todays_writer_writes_all_of_it(name: str, fresh: dict[str, dict[str, Any]]) -> None:
    missing = shape(record_of(golden(name))) - shape(fresh[name])
    if name == "certificate":  # what a witness holds is its checker's affair, see the next test
        missing = {where for where in missing if not where.startswith(".witness.")}
    assert sorted(missing) == []


def test_the_committed_certificate_is_still_supported_by_its_witness() -> None:
    certificate = Certificate.from_dict(record_of(golden("certificate")))
    assert certificate.recheck()
    assert not replace(certificate, value=certificate.value / 2).recheck()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("change", [1, 1000, "new"])
def test_another_version_is_refused_by_name(name: str, change: Any, tmp_path: Path) -> None:
    kind = FORMATS[name]
    other = kind.version + change if isinstance(change, int) else change
    with pytest.raises(FormatError) as refused:
        kind.read(changed(name, tmp_path, {kind.key: other}))
    assert f"{kind.key} {other!r}; expected {kind.key} {kind.version}" in str(refused.value)


# A run's version is in its folder's name as well; before it stood in the file, the name alone said it.
@pytest.mark.parametrize("name", [name for name in NAMES if name != "run"])
def test_no_version_is_refused_by_name(name: str, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="None"):
        FORMATS[name].read(changed(name, tmp_path, {}, dropped=FORMATS[name].key))


@pytest.mark.parametrize(("name", "field"), [("report", "verdict"), ("limits", "check"), ("claim", "because")])
def test_a_record_without_a_field_is_refused_by_name(name: str, field: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=field):
        FORMATS[name].read(changed(name, tmp_path, {}, dropped=field))


@pytest.mark.parametrize("name", NAMES)
def test_a_field_that_is_gone_is_seen(name: str) -> None:
    whole = record_of(golden(name))
    for field in whole:
        assert shape(whole) - shape({key: item for key, item in whole.items() if key != field}), field


def test_a_change_deep_inside_is_seen() -> None:
    before = {"rows": [{"a": 1, "b": None}, {"a": 2, "c": "x"}]}
    assert shape(before) - shape({"rows": [{"a": 1.5, "b": 3}, {"c": "y"}, {"d": 1}]}) == set()
    assert shape(before) - shape({"rows": [{"a": 1, "b": None}]}) == {".rows[].c", ".rows[].c: str"}
    assert shape(before) - shape({"rows": [{"a": "1", "b": None, "c": "x"}]}) == {".rows[].a: number"}


def test_golden_samples_are_small_and_all_belong_to_a_format() -> None:
    files = [path for path in GOLDEN.rglob("*") if path.is_file()]
    assert {path.parent.name for path in files} == set(FORMATS)
    assert max(path.stat().st_size for path in files) < 100_000
