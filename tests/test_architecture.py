"""The design's arrows, held by reading the imports: who may know whom."""

import ast
from pathlib import Path

import pytest

import promptreach

PACKAGE = Path(promptreach.__file__).parent

# A room may import the top-level records and algebra, itself, and what stands here. None means everything.
ALLOWED: dict[str, set[str] | None] = {
    "": set(),
    "compiler": set(),
    "limits": set(),
    "inference": set(),
    "tuning": {"limits", "inference"},
    # The protocol that it implements, what it runs on real models, and what it wraps as a model.
    "hf": {"tuning.backbone", "inference", "compiler"},
    "audit": None,
    "doctor": None,  # opens every room, to see that it opens
    "claims": None,
    "cli": None,
}

# Strings handed to importlib count as imports. These are the doors that a name or a path goes through.
DOORS = {("tuning.backbone", "hf"), ("inference.precompute", "hf")}


def modules(package: Path = PACKAGE) -> dict[str, str]:
    """The source of every module by its dotted name inside the package."""
    paths = {path: path.relative_to(package).with_suffix("") for path in package.rglob("*.py")}
    names = {path: ".".join(part for part in name.parts if part != "__init__") for path, name in paths.items()}
    return {name: path.read_text(encoding="utf-8") for path, name in names.items()}


def imports_of(name: str, source: str, is_package: bool = False) -> set[str]:
    """Every absolute dotted name that a module imports anywhere, also inside functions and through importlib."""
    found = set()
    parents = ["promptreach", *name.split(".")] if name else ["promptreach"]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = parents[: len(parents) - node.level + is_package] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            # `from promptreach import hf` names a room only in its second half.
            found |= {f"{origin}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            found |= {arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant)}
    return found


def room_of(name: str) -> str:
    """The room a module belongs to; empty for the top level, whose modules may carry any name that is not a room's."""
    head = name.split(".")[0]
    return head if head in ALLOWED else ""


def violations(sources: dict[str, str]) -> list[str]:
    """Every import that runs against the arrows, as ``module -> imported``."""
    wrong = []
    for name, source in sources.items():
        imported = imports_of(name, source, is_package=(PACKAGE / name.replace(".", "/")).is_dir())
        for target in sorted(imported):
            outside = target.split(".")[0]
            if outside in ("transformers", "peft") and room_of(name) != "hf":
                wrong.append(f"{name} -> {outside}")
            # The package's front page names every room, and the command line opens every one.
            if outside != "promptreach" or name in ("", "__main__") or room_of(name) == "cli":
                continue
            inner = target.removeprefix("promptreach").removeprefix(".")
            allowed = ALLOWED[room_of(name)]
            if inner.split(".")[0] == "cli" and name != "__main__":
                wrong.append(f"{name} -> cli")
            elif (
                allowed is not None
                and room_of(inner) not in ("", room_of(name))
                and not any(inner == other or inner.startswith(f"{other}.") for other in allowed)
                and not any((name, room_of(inner)) == door for door in DOORS)
            ):
                wrong.append(f"{name} -> {inner}")
    return wrong


def test_arrows_point_one_way():
    assert violations(modules()) == []


def test_every_folder_is_a_room_of_the_design():
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders <= {*ALLOWED, "theorems"}  # the registry is of the top level, a folder only for its size


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("norms", "import promptreach.limits.oracle"),
        ("norms", "from promptreach import hf"),
        ("norms", "from .limits import oracle"),
        ("weights", "def f():\n    from promptreach.tuning.fit import fit"),
        ("norms", "import importlib\nimportlib.import_module('promptreach.hf')"),
        ("limits.oracle", "from promptreach.inference.planner import plan"),
        ("limits.oracle", "from ..inference import planner"),
        ("compiler.grid", "from promptreach.limits import oracle"),
        ("inference.planner", "from promptreach.tuning.fit import fit"),
        ("tuning.fit", "from promptreach.hf import open_model"),
        ("tuning.fit", "from importlib import import_module\nimport_module('promptreach.hf')"),
        ("tuning.fit", "from promptreach import audit"),
        ("hf.model", "from promptreach.tuning.fit import fit"),
        ("hf.model", "from promptreach.audit.findings import Finding"),
        ("audit.result", "import transformers"),
        ("tuning.fit", "from peft.tuners import lora"),
        ("cli", "import transformers"),
        ("", "import peft"),
        ("audit.result", "from promptreach.cli import main"),
    ],
)
def test_a_wrong_import_is_seen(name, source):
    assert len(violations({name: source})) == 1


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("norms", "from promptreach.certificate import Certificate\nimport torch"),
        ("limits.oracle", "from promptreach import attention\nfrom promptreach.limits.search import bisect"),
        ("limits.oracle", "from .search import bisect\nfrom ..attention import split"),
        ("tuning.fit", "from promptreach.limits import oracle\nfrom promptreach.inference.planner import plan"),
        ("tuning.backbone", "import importlib\nimportlib.import_module('promptreach.hf')"),
        ("hf.model", "import transformers, peft\nfrom promptreach.tuning.backbone import Backbone"),
        ("hf.model", "from promptreach.tuning import backbone"),
        ("audit.checks.probe", "from promptreach.hf import open_model\nfrom promptreach.tuning.fit import fit"),
        ("cli", "from promptreach.audit import audit"),
    ],
)
def test_a_right_import_passes(name, source):
    assert violations({name: source}) == []
