"""How the house is kept: test files by name, no private doors, one class a name, first lines that name the thing."""

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest

import promptreach

PACKAGE = Path(promptreach.__file__).parent
TESTS = Path(__file__).parent


def trees(folder: Path) -> dict[str, ast.Module]:
    """Every Python file below a folder, by its path there."""
    paths = sorted(path for path in folder.rglob("*.py") if "__pycache__" not in path.parts)
    return {path.relative_to(folder).as_posix(): ast.parse(path.read_text("utf-8")) for path in paths}


SOURCES, TEST_FILES = trees(PACKAGE), trees(TESTS)


def is_public(path: str) -> bool:
    """Whether neither a file nor a room around it has an underscore in front of its name; rooms' own pages aside."""
    return not any(part.startswith("_") for part in path.split("/"))


def lacks_a_test_file(path: str) -> bool:
    """Whether no test file in the same rooms bears the name of a source file."""
    place, stem = TESTS / Path(path).parent, Path(path).stem
    return not [*place.glob(f"test_{stem}.py"), *place.glob(f"test_{stem}_*.py")]


def private_imports(tree: ast.Module) -> list[str]:
    """Names with an underscore in front that a file takes from the package, or the files of that kind it opens."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "promptreach":
            names = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
            found += [f"{node.module}: {name}" for name in names if name.startswith("_") and not name.endswith("__")]
    return found


def imported_tests(tree: ast.Module) -> list[str]:
    """Test files that a file imports."""
    nodes = list(ast.walk(tree))
    modules = [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    modules += [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    return [name for name in modules if any(part.startswith("test_") for part in name.split("."))]


def public_classes(sources: dict[str, ast.Module]) -> dict[str, list[str]]:
    """Where each public class of a public file is made, by its name."""
    found = defaultdict(list)
    for path, tree in sources.items():
        for node in tree.body if is_public(path) else ():
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append(path)
    return dict(found)


OPENINGS = re.compile(r"(What|How|Who|Whom|Whose|Where|Whether|That|Why|When)\b")
"""Words that open a clause, where a first line should name the thing."""
FRAGMENTS = re.compile(r"(Likewise|Of |As |The same\b|Also\b|And |Or |Its )")
"""Openings that need the text of a neighbour to be understood."""


def clauses(sources: dict[str, ast.Module]) -> list[str]:
    """Files whose first line is a clause instead of a noun phrase."""
    firsts = {path: (ast.get_docstring(tree) or "").partition("\n")[0] for path, tree in sources.items()}
    return [f"{path}: {first}" for path, first in firsts.items() if OPENINGS.match(first)]


def fragments(sources: dict[str, ast.Module]) -> list[str]:
    """Constants whose text does not stand alone."""
    found = []
    for path, tree in sources.items():
        for node, after in zip(tree.body, tree.body[1:], strict=False):
            is_text = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            if is_text and isinstance(node, ast.Assign | ast.AnnAssign) and FRAGMENTS.match(str(after.value.value)):
                found.append(f"{path}:{node.lineno} {after.value.value}")
    return found


@pytest.mark.parametrize("path", [path for path in SOURCES if is_public(path)])
def test_every_public_file_has_its_test_file(path: str) -> None:
    assert not lacks_a_test_file(path)


def test_tests_go_through_no_private_door() -> None:
    assert {path: found for path, tree in TEST_FILES.items() if (found := private_imports(tree))} == {}


def test_no_test_imports_another() -> None:
    assert {path: found for path, tree in TEST_FILES.items() if (found := imported_tests(tree))} == {}


def test_no_two_public_classes_share_a_name() -> None:
    assert {name: paths for name, paths in public_classes(SOURCES).items() if len(paths) > 1} == {}


def test_first_lines_name_the_thing() -> None:
    assert clauses(SOURCES) == []


def test_the_text_of_a_constant_stands_alone() -> None:
    assert fragments(SOURCES) == []


def test_what_is_looked_for_is_seen() -> None:
    wrong = ast.parse(
        '"""What a file does."""\nfrom promptreach.a import _b\nfrom test_c import d\n'
        'X = 1\n"""Likewise."""\nclass E: ...'
    )
    assert private_imports(wrong) == ["promptreach.a: _b"]
    assert imported_tests(wrong) == ["test_c"]
    assert clauses({"a.py": wrong}) == ["a.py: What a file does."]
    assert fragments({"a.py": wrong}) == ["a.py:4 Likewise."]
    assert public_classes({"a.py": wrong, "b.py": wrong, "_c.py": wrong}) == {"E": ["a.py", "b.py"]}
    assert lacks_a_test_file("no/such/file.py")
    assert not is_public("a/_b/c.py")


def test_every_place_that_the_map_names_is_there() -> None:
    text = (TESTS.parent / "CONTRIBUTING.md").read_text("utf-8")
    places = {place for place in re.findall(r"`([\w/]+(?:\.py|\.toml|/))`", text)}
    roots = (PACKAGE, TESTS.parent)
    assert len(places) > 40
    assert [place for place in sorted(places) if not any((root / place).exists() for root in roots)] == []
