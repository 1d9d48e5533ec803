"""Everything that a page shows as code is code: Python runs, and commands are ones that the command line takes.

A page's Python blocks run in order, as a reader would run them, in a folder with tiny models and a few reviews under
the names that the pages use. `print(...)  # text` promises that line; a page that promises one promises all it prints.
"""

import re
import shlex
import textwrap
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from helpers.pages import SMALL, write_material
from promptreach import cli
from promptreach.audit.settings import BUDGETS

PROJECT = Path(__file__).parent.parent
PAGES = [PROJECT / "README.md", PROJECT / "CONTRIBUTING.md", *sorted((PROJECT / "docs").rglob("*.md"))]
LANGUAGES = {"python", "shell", "text", ""}
"""Blocks without a language hold output, or commands, which are checked all the same."""

CHEAP = {"promptreach claims": 0, "promptreach compile sort --tokens 2 --tol 0.05": 0}
"""Commands on the pages that are also run, with their exit status."""

_FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
_INLINE = re.compile(r"`(promptreach [^`]+)`")


def blocks(page: Path, language: str) -> list[str]:
    """The code of a page in one language."""
    return [textwrap.dedent(code) for _, found, code in _FENCE.findall(page.read_text("utf-8")) if found == language]


def commands(page: Path) -> list[str]:
    """The command lines on a page: those of shell blocks, those of unnamed blocks that look like one, those in text."""
    text = page.read_text("utf-8")
    shown = [line for code in blocks(page, "shell") for line in code.splitlines()]
    shown += [line for code in blocks(page, "") for line in code.splitlines() if is_known(line)]
    shown += [line for line in _INLINE.findall(_FENCE.sub("", text)) if len(line.split()) > 2]
    return [line.split("  #")[0].strip() for line in shown if line.strip()]


def is_known(line: str) -> bool:
    return line.split(" ")[0] in ("promptreach", "make", "python")


def refusal(line: str) -> str:
    """Why the project would not take a command line; empty when it would."""
    program, *arguments = shlex.split(line)
    if program == "make":
        targets = re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text("utf-8"), re.MULTILINE)
        return "" if set(arguments) <= set(targets) else f"make has {targets}"
    if program == "python":
        return "" if (PROJECT / arguments[0]).is_file() else f"there is no {arguments[0]}"
    if program != "promptreach":
        return f"{program} is not checked here; show it as text"
    group = typer.main.get_command(cli.app)
    command = group.commands.get(arguments[0])
    if command is None:
        return f"there is no command {arguments[0]}"
    try:
        command.make_context(arguments[0], arguments[1:])
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the pages' code finds in its folder: an encoder, a causal model, an adapter of each, and reviews."""
    folder = tmp_path_factory.mktemp("docs")
    write_material(folder)
    return folder


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The quick budget, shrunk until a tiny model takes seconds."""
    monkeypatch.setitem(BUDGETS, "quick", SMALL)


@pytest.mark.parametrize(
    "page", [pytest.param(page, id=str(page.relative_to(PROJECT))) for page in PAGES if blocks(page, "python")]
)
def test_the_python_of_a_page_runs_and_prints_what_it_promises(
    page: Path, material: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(material)
    code = blocks(page, "python")
    names: dict[str, object] = {"__name__": "documentation"}
    for index, block in enumerate(code):
        exec(compile(block, f"{page.name}, block {index + 1}", "exec"), names)
    promised = re.findall(r"^print\(.*\)\s+# (.*)$", "\n".join(code), re.MULTILINE)
    assert not promised or capsys.readouterr().out.splitlines() == promised


@pytest.mark.parametrize("page", [pytest.param(page, id=str(page.relative_to(PROJECT))) for page in PAGES])
def test_commands_on_a_page_are_ones_that_the_project_takes(page: Path) -> None:
    assert {line: why for line in commands(page) if (why := refusal(line))} == {}


@pytest.mark.parametrize(
    "line",
    [
        "promptreach audti MODEL DATA",
        "promptreach audit MODEL",
        "promptreach audit MODEL DATA --bugdet quick",
        "promptreach capacity MODEL --tokens many",
        "make demos",
        "python examples/no_such.py",
        "pip install promptreach",
    ],
)
def test_a_wrong_command_would_be_found(line: str) -> None:
    assert refusal(line)


@pytest.mark.parametrize("line", CHEAP)
def test_cheap_commands_run(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert any(found.startswith(line) for page in PAGES for found in commands(page)), "no page shows it any more"
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(cli.app, shlex.split(line)[1:]).exit_code == CHEAP[line]


def test_no_block_is_left_unchecked() -> None:
    found = {page: _FENCE.findall(page.read_text("utf-8")) for page in PAGES}
    assert {language for fences in found.values() for _, language, _ in fences} <= LANGUAGES
    # More marks than two a block mean a block that was not closed, or not seen.
    marks = {page: len(re.findall(r"^ *```", page.read_text("utf-8"), re.MULTILINE)) for page in PAGES}
    assert {page.name: count for page, count in marks.items() if count != 2 * len(found[page])} == {}


def test_blocks_are_found_also_inside_lists() -> None:
    page = Path(__file__).parent.parent / "docs" / "extend" / "claim.md"
    assert any("docs/made.py" in line for line in commands(page))
