"""The example notebooks run as written, show something short for every cell that ends in a name, and carry no outputs.

Their code cells run in order in one namespace, with tiny models under the names that they use: no kernel is needed.
"""

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest

from helpers.pages import SMALL, write_material
from promptreach.audit.settings import BUDGETS
from promptreach.report.glance import MOST_LINES

FOLDER = Path(__file__).parents[2] / "examples" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
KEYS = {"markdown": {"cell_type", "id", "metadata", "source"}}
KEYS["code"] = KEYS["markdown"] | {"execution_count", "outputs"}


def cells(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_text("utf-8"))["cells"]
    return found


def run(code: str, names: dict[str, Any], file: str) -> Any:
    """Run a cell; what its last line shows, or None."""
    tree = ast.parse(code)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, file, "exec"), names)
    if last is None:
        return None
    return eval(compile(ast.Expression(last.value), file, "eval"), names)  # type: ignore[attr-defined]


def shortest(value: Any) -> int:
    """The lines that an interpreter shows of a value."""
    return len(repr(value).splitlines())


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_a_notebook_without_outputs(path: Path) -> None:
    record = json.loads(path.read_text("utf-8"))
    assert (record["nbformat"], record["nbformat_minor"]) == (4, 5)
    assert record["metadata"]["kernelspec"]["name"] == "python3"
    names = [cell["id"] for cell in record["cells"]]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-zA-Z0-9-_]{1,64}", name) for name in names)
    for cell in record["cells"]:
        assert set(cell) == KEYS[cell["cell_type"]]
        assert all(isinstance(line, str) for line in cell["source"])
        assert all(line.endswith("\n") for line in cell["source"][:-1])
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_as_written_and_shows_what_fits_a_screen(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_material(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(BUDGETS, "quick", SMALL)
    names: dict[str, Any] = {"__name__": "notebook"}
    for cell in cells(path):
        if cell["cell_type"] != "code":
            continue
        shown = run("".join(cell["source"]), names, f"{path.name}, {cell['id']}")
        assert shortest(shown) <= MOST_LINES
        assert shown is None or hasattr(shown, "_repr_html_") or len(repr(shown)) < 2000


def test_there_is_one_for_every_reader() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["practitioner", "researcher", "server"]
