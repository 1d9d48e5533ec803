"""Progress is for people at a terminal, and for nobody else."""

import io
import subprocess
import sys
import warnings
from types import ModuleType
from typing import Any

import pytest
from rich.console import Console

from promptreach.progress import Progress


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
    monkeypatch.setattr("promptreach.progress.find_spec", lambda name: object() if widgets else None)
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
