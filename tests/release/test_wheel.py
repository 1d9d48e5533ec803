"""The wheel: what is in it, what its metadata say, and that it works in an empty environment, with each extra alone."""

import email
import json
import os
import re
import subprocess
import sys
import tomllib
import venv
import zipfile
from collections.abc import Iterable
from email.message import Message
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import promptreach
from promptreach.doctor import EXTRAS

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "promptreach"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
INFO = f"promptreach-{promptreach.__version__}.dist-info"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        return email.message_from_bytes(archive.read(f"{INFO}/METADATA"))


def strangers(names: Iterable[str]) -> list[str]:
    """What has no place in a wheel: anything outside the package, and kinds of files that the library never needs."""
    files = r"promptreach/(.*\.(py|j2|css|js|toml)|py\.typed|hf/adapters/load\.py\.txt)"
    ours = re.compile(rf"({files}|{re.escape(INFO)}/.*)")
    return sorted(name for name in names if not ours.fullmatch(name) or "/tests/" in name)


def test_it_is_the_package_and_nothing_else(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    files = {path for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert {name for name in names if not name.startswith(INFO)} == {
        path.relative_to(PACKAGE.parent).as_posix() for path in files
    }
    assert strangers(names) == []


def test_types_templates_styles_and_theorems_ship(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert "promptreach/py.typed" in names
    wanted = ("page.html.j2", "report.html.j2", "blocks.html.j2", "report.css", "figures.css", "report.js")
    assert {f"promptreach/report/{name}" for name in wanted} <= names
    assert "promptreach/theorems/theorems.toml" in names
    assert any(name.startswith(f"{INFO}/licenses/") for name in names)


@pytest.mark.parametrize(
    "name",
    [
        "tests/helpers/models.py",
        "promptreach/tests/test_x.py",
        "promptreach/reviews.csv",
        "promptreach/model.safetensors",
    ],
)
def test_a_stranger_is_seen(name: str) -> None:
    assert strangers([name, "promptreach/norms.py", f"{INFO}/METADATA"]) == [name]


def test_its_metadata_say_what_the_project_says(metadata: Message, wheel: Path) -> None:
    assert metadata["Name"] == "promptreach"
    assert metadata["Version"] == promptreach.__version__
    assert metadata["Requires-Python"] == PROJECT["requires-python"]
    assert metadata["License-Expression"] == PROJECT["license"]
    needed = [Requirement(line) for line in metadata.get_all("Requires-Dist", [])]
    core = {str(item) for item in needed if item.marker is None}
    assert core == {str(Requirement(line)) for line in PROJECT["dependencies"]}
    with zipfile.ZipFile(wheel) as archive:
        assert "promptreach = promptreach.__main__:main" in archive.read(f"{INFO}/entry_points.txt").decode()


def test_every_extra_that_is_named_exists(metadata: Message) -> None:
    provided = set(metadata.get_all("Provides-Extra", []))
    assert provided == set(EXTRAS)
    pages = [ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md"), *PACKAGE.rglob("*.py")]
    named = {
        extra
        for page in pages
        for some in re.findall(r"promptreach\[([a-z,]+)\]", page.read_text(encoding="utf-8"))
        for extra in some.split(",")
    }
    assert named <= provided


# By hand, with the network: they install torch.


class Environment:
    """A virtual environment, on top of another one's packages if there is one."""

    def __init__(self, folder: Path, below: "Environment | None" = None) -> None:
        venv.create(folder, with_pip=True)
        self.python = folder / "bin" / "python"
        (self.packages,) = folder.glob("lib/python*/site-packages")
        if below is not None:
            (self.packages / "below.pth").write_text(f"{below.packages}\n", encoding="utf-8")

    def run(self, *arguments: str) -> str:
        """Standard output of this environment's Python, which sees no other packages."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        ran = subprocess.run([str(self.python), *arguments], capture_output=True, text=True, check=False, env=clean)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    def install(self, requirement: str) -> None:
        constraints = str(ROOT / "constraints.txt")
        self.run("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", constraints, requirement)


@pytest.fixture(scope="module")
def core(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    environment = Environment(tmp_path_factory.mktemp("core"))
    environment.install(str(wheel))
    return environment


@pytest.mark.slow
def test_the_core_works_in_an_empty_environment(core: Environment, tmp_path: Path) -> None:
    examination = json.loads(core.run("-m", "promptreach.cli", "doctor", "--json"))
    assert examination["works"], examination["problems"]
    assert {extra["name"] for extra in examination["extras"] if extra["works"]} == set()
    out = tmp_path / "out"
    core.run("-m", "promptreach.cli", "compile", "reverse", "--tol", "0.4", "--points", "50", "--out", str(out))
    assert "<svg" in (out / "page.html").read_text(encoding="utf-8")
    assert core.run("-c", "import promptreach; print(promptreach.__file__)").startswith(str(core.packages))


@pytest.mark.slow
@pytest.mark.parametrize("extra", EXTRAS)
def test_each_extra_installs_alone(extra: str, core: Environment, wheel: Path, tmp_path: Path) -> None:
    environment = Environment(tmp_path / "environment", below=core)
    environment.install(f"promptreach[{extra}] @ {wheel.as_uri()}")
    examination = json.loads(environment.run("-m", "promptreach.cli", "doctor", "--json"))
    assert examination["works"], examination["problems"]
    assert extra in {each["name"] for each in examination["extras"] if each["works"]}
    module = {"parquet": "pyarrow.parquet", "data": "datasets", "quantised": "torchao"}.get(extra, extra)
    environment.run("-c", f"import promptreach, promptreach.audit, {module}")
