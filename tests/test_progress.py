"""Progress: bars for people at a terminal, lines of the log elsewhere, and a file for programs."""

import importlib.util
import io
import json
import logging
import subprocess
import sys
import time
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from rich.console import Console

from promptreach import progress_log
from promptreach.progress import Progress
from promptreach.progress_log import PROGRESS_FILE
from promptreach.time_left import ExpectedRun, TimeLeft


def terminal() -> tuple[Console, io.StringIO]:
    screen = io.StringIO()
    return Console(force_terminal=True, file=screen, width=120, color_system=None, _environ={}), screen


def test_a_task_shows_its_name_share_time_left_and_note() -> None:
    console, screen = terminal()
    with Progress(console=console) as progress, progress.task("training a prompt", total=4) as step:
        step()
        step(2, note="loss 0.61")
        progress._bars.refresh()
        shown = screen.getvalue()
    for part in ("training a prompt", "75%", "loss 0.61", ":"):
        assert part in shown


def test_names_and_notes_are_not_markup() -> None:
    console, screen = terminal()
    with Progress(console=console) as progress, progress.task("layer [red]3[/red]", total=1) as step:
        step(note="[/oops]")
        progress._bars.refresh()
    assert "layer [red]3[/red]" in screen.getvalue()
    assert "[/oops]" in screen.getvalue()


def test_the_plan_counts_the_steps_of_all_tasks_and_may_be_corrected() -> None:
    console, screen = terminal()
    with Progress(console=console) as progress:
        progress.plan(100)
        for _ in range(2):
            with progress.task("part", total=25) as step:
                step(25)
        progress._bars.refresh()
        assert "everything" in screen.getvalue()
        assert "50%" in screen.getvalue()
        progress.plan(200)
        progress._bars.refresh()
        assert "25%" in screen.getvalue()


def test_a_task_goes_away_when_its_block_ends_or_fails() -> None:
    console, _ = terminal()
    with Progress(console=console) as progress:
        with progress.task("short") as step:
            step()
            assert len(progress._bars.tasks) == 1
        with pytest.raises(KeyboardInterrupt), progress.task("interrupted", total=3):
            raise KeyboardInterrupt
        assert not progress._bars.tasks


def test_tasks_may_stand_inside_tasks() -> None:
    console, screen = terminal()
    with (
        Progress(console=console) as progress,
        progress.task("outer", total=2) as outer,
        progress.task("inner", total=2) as inner,
    ):
        outer()
        inner()
        progress._bars.refresh()
    assert "outer" in screen.getvalue()
    assert "inner" in screen.getvalue()


@pytest.mark.parametrize(
    ("quiet", "console"),
    [
        (True, Console(force_terminal=True, file=io.StringIO())),
        (False, Console(force_terminal=False, file=io.StringIO())),
        (False, Console(force_terminal=True, file=io.StringIO(), _environ={"TERM": "dumb"})),
    ],
)
def test_silence(quiet: bool, console: Console) -> None:
    with Progress(quiet=quiet, console=console) as progress:
        progress.plan(2)
        with progress.task("unseen", total=2) as step:
            step(note="loss")
            progress._bars.refresh()
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue() == ""


def test_a_pipe_gets_results_and_nothing_else() -> None:
    code = (
        "from promptreach.progress import Progress\n"
        "with Progress() as progress, progress.task('work', total=1) as step:\n"
        "    step(); print('{}')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("{}\n", "")


def test_printed_results_stay_on_standard_output_beside_a_bar(capsys: pytest.CaptureFixture[str]) -> None:
    console, screen = terminal()
    with Progress(console=console) as progress, progress.task("work", total=1):
        print("a result")
    assert capsys.readouterr().out == "a result\n"
    assert "a result" not in screen.getvalue()


class Output:
    """A stand-in of ipywidgets' place to draw in."""

    cleared, closed = 0, False

    def __enter__(self) -> "Output":
        return self

    def __exit__(self, *error: object) -> None: ...

    def clear_output(self, wait: bool) -> None:
        Output.cleared += wait

    def close(self) -> None:
        Output.closed = True


def notebook(monkeypatch: pytest.MonkeyPatch, *, widgets: bool) -> tuple[Console, list[Any]]:
    """A notebook's console and what is displayed in it; stand-ins take the place of IPython and ipywidgets."""
    shown: list[Any] = []
    display = ModuleType("IPython.display")
    display.display = shown.append  # type: ignore[attr-defined]
    drawing = ModuleType("ipywidgets")
    drawing.Output = Output  # type: ignore[attr-defined]
    for name, module in (("IPython", ModuleType("IPython")), ("IPython.display", display), ("ipywidgets", drawing)):
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if widgets else None)
    return Console(force_jupyter=True, file=io.StringIO()), shown


def test_a_notebook_with_widgets_has_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    console, shown = notebook(monkeypatch, widgets=True)
    with Progress(console=console) as progress, progress.task("training a prompt", total=4) as step:
        step(3, note="loss <0.61>")
        progress._bars.refresh()
    assert sum(isinstance(one, Output) for one in shown) == 1
    assert Output.cleared > 0
    assert Output.closed
    pages = [one.html for one in shown if hasattr(one, "html")]
    assert any("training a prompt" in page and "75%" in page and "loss &lt;0.61&gt;" in page for page in pages)


def test_a_notebook_without_widgets_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    console, shown = notebook(monkeypatch, widgets=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # rich would warn at every look
        with Progress(console=console) as progress, progress.task("unseen", total=2) as step:
            step()
            progress._bars.refresh()
    assert shown == []


def test_without_a_terminal_the_log_says_how_far_the_work_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(progress_log, "LINE_SECONDS", 0.02)
    console = Console(force_terminal=False, file=io.StringIO())
    with caplog.at_level(logging.INFO, "promptreach"), Progress(console=console) as progress:
        progress.enter("Matched training", 4, 19)
        progress.expect(TimeLeft({"Matched training": 0.0}, {"lora": ExpectedRun(8, 8, 800.0)}, "Matched training"))
        with progress.task("lora", total=8) as step:
            step(2, "loss 0.61")
            until = time.monotonic() + 10
            while "2 of 8" not in caplog.text and time.monotonic() < until:
                time.sleep(0.01)
        progress.tell("First look: \x1b[2J")
    assert "4 of 19, Matched training: lora, 2 of 8 steps, loss 0.61; about 10 min" in caplog.text
    assert "First look: \\x1b[2J" in caplog.text


def test_a_word_at_once_stands_above_the_bars(caplog: pytest.LogCaptureFixture) -> None:
    console, screen = terminal()
    with caplog.at_level(logging.INFO, "promptreach"), Progress(console=console) as progress:
        progress.tell("About 6 min [here]")
    assert "About 6 min [here]" in screen.getvalue()
    assert not caplog.records


def test_quiet_says_nothing_and_still_writes_the_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "promptreach"), Progress(quiet=True, folder=tmp_path) as progress:
        progress.tell("unheard")
        progress.plan(8)
        with progress.task("lora", total=8) as step:
            step(4, "loss 0.5")
            left = progress.standing().seconds_left
    found = [json.loads(line) for line in (tmp_path / PROGRESS_FILE).read_text().splitlines()]
    assert found[0]["task"] == "lora"
    assert found[-1]["state"] == "finished"
    assert left is not None
    assert not caplog.records


@pytest.mark.parametrize(("error", "state"), [(KeyboardInterrupt(), "stopped"), (ValueError(), "failed")])
def test_the_file_says_how_the_work_ended(error: BaseException, state: str, tmp_path: Path) -> None:
    with pytest.raises(type(error)), Progress(quiet=True, folder=tmp_path):
        raise error
    assert json.loads((tmp_path / PROGRESS_FILE).read_text().splitlines()[-1])["state"] == state


@pytest.mark.parametrize("there", [True, False])
def test_a_notebook_gets_bars_where_it_has_the_widgets_and_lines_elsewhere(
    there: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: there or None)
    progress = Progress(console=Console(force_jupyter=True, file=io.StringIO()))
    assert progress._bars.disable is not there
    with caplog.at_level(logging.INFO, "promptreach"):
        progress.tell("a word")
    assert bool(caplog.records) is not there
