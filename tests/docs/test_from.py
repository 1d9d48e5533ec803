"""The pages "from inside X" begin with a question, end with an answer, and their commands run as written.

Their Python runs with that of every page (tests/test_docs.py). Here the commands run behind it, in the same folder and
with a hub on this machine.
"""

import re
import shlex
from pathlib import Path

import pytest

from helpers.command_line import run
from helpers.hub import hub_here
from helpers.pages import SMALL, write_material
from promptreach.audit.settings import BUDGETS

PROJECT = Path(__file__).parents[2]
PAGES = sorted((PROJECT / "docs" / "from").glob("*.md"))
_PYTHON = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_INLINE = re.compile(r"`(promptreach [a-z]+ [^`]*)`")


def commands(page: Path) -> list[str]:
    """The whole command lines of a page; one with dots stands for others."""
    text, fence, lines = page.read_text("utf-8"), None, []
    for line in text.splitlines():
        if line.startswith("```"):
            fence = None if fence is not None else line
        elif fence == "```":
            lines.append(line)
    return [line for line in lines + _INLINE.findall(text) if line.startswith("promptreach ") and "..." not in line]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_begins_with_a_question_and_ends_with_an_answer(page: Path) -> None:
    headings = re.findall(r"^#+ .*$", page.read_text("utf-8"), re.MULTILINE)
    assert headings[0].endswith("?")
    assert headings[-1] == "## The answer"


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=lambda page: page.stem)
def test_the_commands_of_a_page_run_as_written(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_material(tmp_path)
    for name in BUDGETS:
        monkeypatch.setitem(BUDGETS, name, SMALL)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "documentation"}
    for block in _PYTHON.findall(page.read_text("utf-8")):
        exec(compile(block, page.name, "exec"), names)
    with hub_here() as hub:
        hub.user = "my-name"
        for line in commands(page):
            status, said, err = run(*shlex.split(line)[1:])
            assert status in ((0, 1, 3) if line.startswith("promptreach audit") else (0,)), f"{line}\n{said}\n{err}"
        asked = set(re.findall(r"--push-to-hub (\S+)", page.read_text("utf-8")))
        assert set(hub.repositories) <= asked
        assert bool(hub.repositories) == bool(asked)


def test_every_page_that_shows_commands_is_run() -> None:
    assert {page.stem for page in PAGES if commands(page)} == {"hub", "server", "trainer"}


def test_the_readmes_first_screen_shows_training_audit_and_callback() -> None:
    first = (PROJECT / "README.md").read_text("utf-8").splitlines()[:32]
    for words in ("promptreach fit ", "promptreach audit ", "SoftPromptMonitor"):
        assert any(words in line for line in first)
