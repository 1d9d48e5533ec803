"""Help fits a screen, says something of everything, and is what the README says.

A screen is 40 lines of 100 columns.
"""

import re
import shlex
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from promptreach import cli

README = Path(__file__).parents[2] / "README.md"
LINES, COLUMNS = 40, 100
MORE_LINES = {"predict": 46, "audit": 96, "fit": 92, "evaluate": 48}
"""These take every choice of a training, in panels of their own: what is asked first is on the first screen."""

COMMANDS = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]


def help_of(*command: str) -> str:
    shown = CliRunner().invoke(cli.app, [*command, "--help"], prog_name="promptreach", env={"COLUMNS": str(COLUMNS)})
    assert shown.exit_code == 0
    return shown.stdout


def squeezed(text: str) -> str:
    """The words alone: no frames, no line breaks."""
    return " ".join(re.sub(r"[│╭╮╰╯─]", " ", text).split())


def options_of(command: str) -> set[str]:
    return {"--help"} | {
        name for item in COMMANDS[command].params for name in (*item.opts, *item.secondary_opts) if name.startswith("-")
    }


def calls_in(markdown: str) -> list[str]:
    """Every call of the command line in a page: lines of its blocks, and what stands in backticks."""
    return re.findall(r"^promptreach .*$", markdown, re.MULTILINE) + re.findall(r"`(promptreach [^`]*)`", markdown)


def wrong_in(call: str) -> list[str]:
    """What a call names that does not exist."""
    _, name, *rest = shlex.split(call, comments=True)
    if name not in COMMANDS:
        return [name]
    return [word for word in rest if word.startswith("--") and word.partition("=")[0] not in options_of(name)]


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_fits_a_screen(command: str) -> None:
    lines = help_of(*command.split()).splitlines()
    assert len(lines) <= MORE_LINES.get(command, LINES)
    assert max(map(len, lines)) <= COLUMNS


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_summary_of_one_line(command: str) -> None:
    summary = (COMMANDS[command].help or "").partition("\n")[0]
    assert summary
    (line,) = [line for line in help_of().splitlines() if line.startswith(f"│ {command} ")]
    assert squeezed(line) == f"{command} {summary}"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_word_of_help_is_there_and_shown(command: str) -> None:
    shown = squeezed(help_of(command))
    said = [item.help for item in COMMANDS[command].params] + (COMMANDS[command].help or "").split("\n\n")
    assert all(text and text.endswith((".", "?")) for text in said)
    # Brackets would be read as markup and swallowed.
    assert [text for text in said if squeezed(text) not in shown] == []
    assert "Exit status: 0" in shown


def test_the_readme_names_every_command() -> None:
    named = {shlex.split(call, comments=True)[1] for call in calls_in(README.read_text(encoding="utf-8"))}
    assert named == set(COMMANDS)


def test_every_call_of_the_readme_exists() -> None:
    calls = calls_in(README.read_text(encoding="utf-8"))
    assert {call: wrong for call in calls if (wrong := wrong_in(call))} == {}


@pytest.mark.parametrize(
    ("call", "wrong"),
    [
        ("promptreach audit MODEL DATA --text-col text  # fine", []),
        ("promptreach audit MODEL DATA --text-col=text", []),
        ("promptreach audit MODEL --textcol text --nope", ["--textcol", "--nope"]),
        ("promptreach limits MODEL --text-col text", ["--text-col"]),  # another command's
        ("promptreach dance", ["dance"]),
    ],
)
def test_a_wrong_call_is_seen(call: str, wrong: list[str]) -> None:
    assert wrong_in(call) == wrong
    assert calls_in(f"Call `{call}` now.\n\n```\n{call}\n```\n") == [call, call]
