"""The command line, one file a command: it parses, calls the library and makes an exit status of it; no logic here.

Heavy imports happen inside the commands, so that ``--help`` answers at once.
"""

from typing import Annotated

import typer

from promptreach._version import __version__
from promptreach.cli._command import STOPPED, bounded, end_unread
from promptreach.cli.attend import attend
from promptreach.cli.audit import audit
from promptreach.cli.capacity import capacity
from promptreach.cli.claims import claims
from promptreach.cli.compile import compile
from promptreach.cli.doctor import doctor
from promptreach.cli.evaluate import evaluate
from promptreach.cli.export import export
from promptreach.cli.fit import fit
from promptreach.cli.inspect import inspect
from promptreach.cli.limits import limits
from promptreach.cli.predict import predict
from promptreach.cli.shrink import shrink
from promptreach.terminal import say


def _reflowed(text: str | None) -> str:
    """Paragraphs as single lines: typer would keep the line breaks of the source, which suit no terminal."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in (text or "").split("\n\n"))


app = typer.Typer(
    name="promptreach",
    help="What a soft prompt can and cannot do to your model, before you spend the compute.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> bool:
    if wanted:
        say(f"promptreach {__version__}")
        raise typer.Exit
    return wanted


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


# In the order in which `--help` shows them.
for command in (
    audit,
    fit,
    predict,
    evaluate,
    inspect,
    export,
    limits,
    compile,
    attend,
    shrink,
    capacity,
    claims,
    doctor,
):
    app.command(help=_reflowed(command.__doc__))(bounded(command))


def main() -> None:
    """The entry point of the console script.

    Help is printed by typer, which ends with 1 where nobody reads it: a verdict, and here none was reached. Ctrl-C
    before a command has begun ends there without a word.
    """
    try:
        app()
    except SystemExit as ended:
        if isinstance(ended.__context__, BrokenPipeError):
            end_unread()
        if ended.code == STOPPED and isinstance(getattr(ended.__context__, "__cause__", None), KeyboardInterrupt):
            say("\nStopped.", error=True)
        raise
