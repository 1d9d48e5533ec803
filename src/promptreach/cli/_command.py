"""Pieces of every command: the options that several share, and the boundary that no fault passes raw.

Exit status 0, 1 and 3 are verdicts. Whatever else a call can end with is given its own here: 2 a wrong call or input,
`OUR_FAULT` a fault of this program, 130 Ctrl-C, 141 nobody reads the output any more.
"""

import functools
import logging
import os
import platform
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from promptreach._version import __version__
from promptreach.errors import Fault, PromptreachError, lines_of
from promptreach.memory import is_shortage, shortage_text
from promptreach.terminal import one_line, printable, say
from promptreach.training.arguments import MOST_SEED as MOST_SEED

Model = Annotated[str, typer.Argument(metavar="MODEL", help="Hub id, folder, or GGUF file.")]
"""The model that a command works on."""
Revision = Annotated[str | None, typer.Option(help="Of a hub id.")]
"""The state of the model's repository, where it comes from the hub."""
NumLayers = Annotated[int | None, typer.Option(help="Only the first N layers: a quick look.")]
"""How much of the model is opened."""
Adapter = Annotated[Path | None, typer.Option(help="A PEFT folder with a prompt or a prefix.")]
"""A trained prompt to put in front of the input."""
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress.")]
"""The switch that silences standard error."""
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
"""The switch from text for people to JSON for programs."""
_PUBLISHING = "Publishing"
PushToHub = Annotated[
    str | None,
    typer.Option(metavar="REPO", rich_help_panel=_PUBLISHING, help="Upload the adapter to the Hugging Face hub."),
]
"""The repository that an adapter goes to; it asks for a token that may write."""
Public = Annotated[
    bool, typer.Option("--public", rich_help_panel=_PUBLISHING, help="For everybody to see; else it is private.")
]
"""Who may see a repository that is made for it."""
BaseId = Annotated[
    str,
    typer.Option(
        metavar="ID",
        rich_help_panel=_PUBLISHING,
        show_default=False,
        help="The base's hub id, where MODEL is a folder.",
    ),
]
"""The name by which others find the base."""
STOPPED = 130
"""The exit status after Ctrl-C."""
OUR_FAULT = 70
"""The exit status for a fault of this program, as sysexits.h has it."""


class Budget(StrEnum):
    """The budgets by name."""

    quick = "quick"
    standard = "standard"
    thorough = "thorough"


class Engine(StrEnum):
    """The places where training runs go."""

    local = "local"
    ray = "ray"


class Server(StrEnum):
    """The servers, as the command line names them."""

    vllm = "vllm"
    sglang = "sglang"
    tensorrt_llm = "tensorrt-llm"
    llama_cpp = "llama.cpp"
    transformers = "transformers"


ServeWith = Annotated[
    Server | None, typer.Option(metavar="SERVER", help=f"Keep to what it takes: {', '.join(Server)}.")
]
"""The server that an adapter is for."""


class Tracker(StrEnum):
    """The trackers that curves can go to."""

    tensorboard = "tensorboard"
    trackio = "trackio"


ReportTo = Annotated[
    Tracker | None, typer.Option(metavar="TRACKER", help=f"Send every run's curve to {' or '.join(Tracker)}.")
]
"""Where the curves of our own runs go beside the report."""


class ModelTask(StrEnum):
    """The tasks that a model is opened for."""

    encoder = "encoder"
    causal = "causal"
    seq2seq = "seq2seq"


class Dtype(StrEnum):
    """The types of weights; auto is the checkpoint's own, or float32 where this CPU is slow at it."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"
    float64 = "float64"


def unpublishable(repo: str | None, model: str, base_id: str) -> list[Fault]:
    """Everything against publishing; see `promptreach.commands.publishing.publishing_faults`."""
    if repo is None:
        return []
    from promptreach.commands.publishing import publishing_faults

    return publishing_faults(repo, model, base_id)


def within(least: int, most: int) -> Callable[[int], int]:
    """A check of an option's whole number, which the help does not show: it would not fit a screen."""

    def check(value: int) -> int:
        if not least <= value <= most:
            raise typer.BadParameter(f"{value} is not in the range from {least:,} to {most:,}")
        return value

    return check


@contextmanager
def exit_status(kept: str = "") -> Iterator[None]:
    """The work of a command: a wrong call or input says why, one line a fault, and exits with 2; Ctrl-C with 130.

    Args:
        kept: a sentence for Ctrl-C that says what is left and how to go on from it.
    """
    try:
        yield
    except PromptreachError as error:
        _refuse(error)
    except KeyboardInterrupt:
        say(f"\nStopped. {kept}".rstrip(), error=True)
        raise SystemExit(STOPPED) from None


def bounded(command: Callable[..., Any]) -> Callable[..., Any]:
    """The same command behind the boundary: nothing but a verdict ends with 0, 1 or 3, and nothing with a traceback.

    What `exit_status` does not know is named here: memory that cannot be had, a file that the system refuses, and a
    fault of ours, whose details go to a file.
    """

    @functools.wraps(command)
    def run(*args: Any, **options: Any) -> Any:
        try:
            with _logged():
                return command(*args, **options)
        except (SystemExit, typer.Exit, typer.Abort, GeneratorExit):
            raise
        except BrokenPipeError:
            end_unread()
        except PromptreachError as error:
            _refuse(error)
        except KeyboardInterrupt:
            say("\nStopped.", error=True)
            raise SystemExit(STOPPED) from None
        except BaseException as error:  # a panic of an extension is no Exception
            if is_shortage(error):
                _end(shortage_text(f"running {command.__name__}", error), 2, error)
            if isinstance(error, OSError) and error.filename is not None:
                _end(f"{_name(error.filename)}: {error.strerror or type(error).__name__}", 2, error)
            if isinstance(error, RecursionError):
                _end(f"something that {command.__name__} was given is nested too deeply to be read", 2, error)
            place = _keep_details(error, options.get("out"))
            reason = f"{type(error).__name__}: {error}".strip().partition("\n")[0][:200]
            _end(f"a fault of promptreach itself ({reason}); {place}", OUR_FAULT, error)

    return run


def end_unread() -> NoReturn:
    """The end of a call whose output nobody reads any more: no verdict, and no words."""
    # What is still in the buffer would raise again when the interpreter ends.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise SystemExit(141) from None


class _ToStderr(logging.Handler):
    """Shows a message on what is standard error at that moment, in nothing that a terminal obeys."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            say(f"promptreach: {self.format(record)}", error=True)
        except Exception:  # a log that cannot be shown breaks no work
            self.handleError(record)


@contextmanager
def _logged() -> Iterator[None]:
    """The library's log on standard error while a command runs, from INFO on: that is where progress goes in a pipe."""
    logger, handler = logging.getLogger("promptreach"), _ToStderr()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def _refuse(error: PromptreachError) -> None:
    faults = getattr(error, "faults", None)
    for line in lines_of(faults) if faults else [str(error)]:
        say(f"promptreach: {one_line(line)}", error=True)
    raise SystemExit(2) from error


def _end(text: str, status: int, error: BaseException) -> None:
    say(f"promptreach: {one_line(text)}", error=True)
    raise SystemExit(status) from error


def _name(file: object) -> str:
    return os.fsdecode(file) if isinstance(file, bytes | str | os.PathLike) else str(file)


def _keep_details(error: BaseException, folder: object) -> str:
    """Where the details are now: in the folder of the results if there is one, else among temporary files."""
    lines = traceback.format_exception(error)
    about = f"promptreach {__version__}, Python {platform.python_version()}, {platform.platform(terse=True)}"
    text = printable(f"{about}\n{sys.argv!r}\n\n{''.join(lines)}")
    for place in (folder if isinstance(folder, Path) and folder.is_dir() else None, None):
        with suppress(OSError):
            descriptor, path = tempfile.mkstemp(".txt", "promptreach-fault-", place)
            with open(descriptor, "w", encoding="utf-8") as stream:
                stream.write(text)
            return f"the details are in {path}"
    return "the details could not be written anywhere"
