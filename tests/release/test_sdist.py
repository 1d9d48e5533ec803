"""The source archive: it holds what a packager needs, nothing that a working tree gathers, and gives the same wheel."""

import email
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import promptreach

ROOT = Path(__file__).parents[2]
NAME = f"promptreach-{promptreach.__version__}"
FOLDERS = {"src", "tests", "docs", "examples", "benchmarks"}


def built(kind: str, place: Path, out: Path) -> Path:
    call = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(out)]
    subprocess.run(call, cwd=place, check=True, capture_output=True)
    (path,) = out.iterdir()
    return path


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("hatchling")
    return built("sdist", ROOT, tmp_path_factory.mktemp("sdist"))


def test_it_holds_the_sources_and_their_tests_and_nothing_of_a_working_tree(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {Path(*Path(name).parts[1:]).as_posix() for name in archive.getnames()}
    tops = {name.partition("/")[0] for name in names}
    assert {name for name in tops if (ROOT / name).is_dir()} == FOLDERS
    assert {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "constraints.txt", "Makefile"} <= tops
    assert {path.relative_to(ROOT).as_posix() for path in (ROOT / "src").rglob("*.py")} <= names
    assert not [name for name in names if "__pycache__" in name or name.endswith((".pyc", ".partial"))]


def test_the_same_wheel_comes_of_it(sdist: Path, tmp_path: Path) -> None:
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "from", filter="data")
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    first = built("wheel", tmp_path / "from" / NAME, tmp_path / "one")
    second = built("wheel", ROOT, tmp_path / "two")
    with zipfile.ZipFile(first) as one, zipfile.ZipFile(second) as two:
        assert {item.filename: item.CRC for item in one.infolist()} == {
            item.filename: item.CRC for item in two.infolist()
        }
        metadata = email.message_from_bytes(one.read(f"{NAME}.dist-info/METADATA"))
    assert len(metadata.get_all("Project-URL", [])) >= 2
    assert "Environment :: Console" in metadata.get_all("Classifier", [])
