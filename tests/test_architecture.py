"""The floors of the house, held by reading every import: arrows point down, and no files stand in a circle."""

import ast
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

import promptreach

PACKAGE = Path(promptreach.__file__).parent

FLOORS = (
    ("theorems",),
    ("report",),
    ("compiler", "limits", "fast_attention"),
    ("compression",),
    ("hf",),
    ("training",),
    ("prediction", "diagnosis", "capacity"),
    ("commands",),
    ("audit", "claims"),
    ("tuning", "inference", "doctor"),
    ("cli",),
    ("",),
)
"""The rooms from the ground up; below them all lie the files beside the rooms, above them the package's front page.

A room may import itself and what lies on lower floors, never a room beside it.
"""
GROUND = {"rows"}
"""The rooms that lie on the ground floor, among the files beside the rooms."""
OUTSIDE = {"transformers": ("hf",), "peft": ("hf",), "accelerate": ("hf",)}
"""Packages that only some rooms may import."""


def modules(package: Path = PACKAGE) -> dict[str, str]:
    """The source of every file by its dotted name inside the package; the front page's name is empty."""
    found = {}
    for path in package.rglob("*.py"):
        parts = path.relative_to(package).with_suffix("").parts
        found[".".join(part for part in parts if part != "__init__")] = path.read_text(encoding="utf-8")
    return found


def imports_of(name: str, source: str, known: Iterable[str]) -> set[str]:
    """The dotted names that a file imports anywhere: inside functions, relatively, for types only, or by a string."""
    known = set(known)
    is_package = any(other.startswith(f"{name}.") for other in known) or not name
    parents = ["promptreach", *name.split(".")] if name else ["promptreach"]
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = parents[: len(parents) - node.level + is_package] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                # `from promptreach import hf` names a file only in its second half.
                inner = f"{origin}.{alias.name}"
                found.add(inner if inner.removeprefix("promptreach.") in known else origin)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            found |= {arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant)}
    return found


def room_of(name: str) -> str | None:
    """The room that a file belongs to; None for the ground floor, empty for the front page and what `-m` starts."""
    head = name.split(".")[0].removeprefix("__main__")
    return head if any(head in floor for floor in FLOORS) else None


def height(room: str | None) -> int:
    """How high a room lies; the ground floor is at -1."""
    return -1 if room is None else next(index for index, floor in enumerate(FLOORS) if room in floor)


def arrows(sources: Mapping[str, str]) -> dict[str, set[str]]:
    """Which files of the package each file imports."""
    known = {*sources, *modules(), *(name for floor in FLOORS for name in floor)}
    found: dict[str, set[str]] = {}
    for name, source in sources.items():
        imported = imports_of(name, source, known)
        inside = {other for other in imported if other == "promptreach" or other.startswith("promptreach.")}
        found[name] = {other.removeprefix("promptreach").removeprefix(".") for other in inside} - {name}
    return found


def violations(sources: Mapping[str, str]) -> list[str]:
    """Every import that does not point down, and every one of a package that its room may not know."""
    wrong = []
    for name, imported in arrows(sources).items():
        own = room_of(name)
        for other in sorted(imported):
            there = room_of(other)
            if there != own and height(there) >= height(own):
                wrong.append(f"{name} -> {other or 'the front page'}")
    for name, source in sources.items():
        packages = {imported.split(".")[0] for imported in imports_of(name, source, sources)}
        wrong += [f"{name} -> {item}" for item in sorted(packages & set(OUTSIDE)) if room_of(name) not in OUTSIDE[item]]
    return wrong


def circle(edges: Mapping[str, set[str]]) -> list[str]:
    """Files that import each other in a ring, or none."""
    done: set[str] = set()

    def search(name: str, path: list[str]) -> list[str]:
        if name in path:
            return path[path.index(name) :]
        if name in done:
            return []
        for other in sorted(edges.get(name, ())):
            if found := search(other, [*path, name]):
                return found
        done.add(name)
        return []

    return next((found for name in sorted(edges) if (found := search(name, []))), [])


def test_arrows_point_down() -> None:
    assert violations(modules()) == []


def test_no_files_stand_in_a_circle() -> None:
    assert circle(arrows(modules())) == []


def test_every_folder_is_a_room_on_a_floor() -> None:
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    rooms = {room for floor in FLOORS for room in floor if room}
    assert folders <= rooms | GROUND
    assert all((PACKAGE / room).is_dir() or (PACKAGE / f"{room}.py").is_file() for room in rooms)


def test_no_room_holds_more_than_its_share() -> None:
    lines = {name: len(source.splitlines()) for name, source in modules().items()}
    rooms = {room_of(name) for name in lines} - {None}
    largest = max(sum(count for name, count in lines.items() if room_of(name) == room) for room in rooms)
    assert largest <= 0.13 * sum(lines.values())


def test_files_hold_one_idea() -> None:
    sizes = {path: len(path.read_text("utf-8").splitlines()) for path in PACKAGE.rglob("*.py")}
    assert {path.name: size for path, size in sizes.items() if size > 400} == {}
    short = [path.name for path, size in sizes.items() if size < 50 and path.name not in ("__init__.py", "__main__.py")]
    assert len(short) <= 10, short


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("norms", "import promptreach.limits.oracle"),
        ("norms", "from promptreach import hf"),
        ("norms", "from .limits import oracle"),
        ("norms", "from promptreach import __version__"),
        ("weights", "def f():\n    from promptreach.training.fit import fit"),
        ("norms", "import importlib\nimportlib.import_module('promptreach.hf')"),
        ("limits.oracle.box", "from promptreach.fast_attention.planner import plan"),
        ("limits.oracle.box", "from ...fast_attention import planner"),
        ("compiler.grid", "from promptreach.limits import oracle"),
        ("fast_attention.planner", "from promptreach.training.fit import fit"),
        ("fast_attention.planner", "from promptreach.inference import attend"),
        ("training.fit", "from promptreach import audit"),
        ("training.fit", "from promptreach.tuning import predict"),
        ("training.fit", "import typing\nif typing.TYPE_CHECKING:\n    from promptreach.diagnosis import verdict"),
        ("prediction.predict", "from promptreach.diagnosis.verdict import Attempt"),
        ("hf.models.model", "from promptreach.training.fit import fit"),
        ("report.text", "from promptreach.diagnosis.verdict import Judgement"),
        ("claims.run", "from promptreach.audit.run import audit"),
        ("commands.limits", "from promptreach.audit.context import AuditContext"),
        ("audit.result", "import transformers"),
        ("training.fit", "from peft.tuners import lora"),
        ("cli", "import transformers"),
        ("", "import peft"),
        ("audit.result", "from promptreach.cli import main"),
    ],
)
def test_a_wrong_import_is_seen(name: str, source: str) -> None:
    assert len(violations({name: source})) == 1


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("norms", "from promptreach.certificate import Certificate\nimport torch"),
        ("limits.oracle.box", "from promptreach import attention\nfrom promptreach.limits.search import bisect"),
        ("limits.oracle.box", "from .search import bisect\nfrom ...attention import split"),
        ("training.fit", "from promptreach.hf import open_model\nfrom promptreach.limits.oracle import memorisable"),
        ("hf.models.model", "import transformers, peft\nfrom promptreach.backbone import Backbone"),
        ("audit.checks.probe", "from promptreach.hf import open_model\nfrom promptreach.training.fit import fit"),
        ("cli", "from promptreach.audit import audit"),
        ("", "from promptreach.cli import main"),
    ],
)
def test_a_right_import_passes(name: str, source: str) -> None:
    assert violations({name: source}) == []


def test_a_circle_is_seen() -> None:
    sources = {"a": "from promptreach import b", "b": "from .c import x", "c": "def f():\n    import promptreach.a"}
    assert circle(arrows(sources)) == ["a", "b", "c"]
    assert circle(arrows(sources | {"c": ""})) == []
