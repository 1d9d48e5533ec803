"""The command line: quick help, the design's options, and exit status 2 for wrong calls."""

import os
import resource
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from promptreach import __version__, cli


def run_module(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)


def test_help_answers_in_under_a_second() -> None:
    def seconds() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    began = seconds()
    assert run_module("-m", "promptreach", "--help").returncode == 0
    # Processor time, so that a busy machine does not fail it; an import of torch alone takes longer.
    assert seconds() - began < 1.0


@pytest.mark.parametrize("heavy", ["torch", "transformers", "peft", "sklearn"])
def test_help_loads_nothing_heavy(heavy: str) -> None:
    code = f"import sys, promptreach.cli; assert {heavy!r} not in sys.modules"
    assert run_module("-c", code).returncode == 0
    assert run_module("-c", f"import sys, {heavy}; assert {heavy!r} not in sys.modules").returncode != 0


def test_audit_has_the_options_of_the_design() -> None:
    text = CliRunner().invoke(cli.app, ["audit", "--help"], env={"COLUMNS": "200"}).stdout
    options = ("text-col", "label-col", "prompt-col", "completion-col", "adapter", "budget", "out", "engine", "seed")
    missing = [option for option in (*options, "resume", "quiet", "json") if f"--{option}" not in text]
    assert missing == []


def test_the_version_is_told_and_python_starts_the_same_program() -> None:
    told = run_module("-m", "promptreach", "--version")
    assert (told.returncode, told.stdout) == (0, f"promptreach {__version__}\n")


def test_a_shell_can_complete_its_words() -> None:
    text = CliRunner().invoke(cli.app, ["--help"], env={"COLUMNS": "200"}).stdout
    assert "--install-completion" in text
    program = "from promptreach.cli import app; app(prog_name='promptreach')"
    for typed, place, words in (("promptreach ev", 1, {"evaluate"}), ("promptreach fit --serve", 2, {"--serve-with"})):
        asked = {"_PROMPTREACH_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(place)}
        done = subprocess.run(
            [sys.executable, "-c", program], env=os.environ | asked, capture_output=True, text=True, check=True
        )
        assert set(done.stdout.split()) == words


def test_every_command_has_json_and_quiet() -> None:
    missing = []
    for command in cli.app.registered_commands:
        name = command.callback.__name__  # type: ignore[union-attr]
        text = CliRunner().invoke(cli.app, [name, "--help"], env={"COLUMNS": "200"}).stdout
        missing += [f"{name} {option}" for option in ("--json", "--quiet") if option not in text]
    assert missing == []


@pytest.mark.parametrize(
    "arguments",
    [["audit"], ["audit", "model"], ["audit", "model", "data", "--budget", "huge"], ["nonsense"], ["audit", "--nope"]],
)
def test_a_wrong_call_exits_with_2(arguments: list[str]) -> None:
    assert CliRunner().invoke(cli.app, arguments).exit_code == 2
