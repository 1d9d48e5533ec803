"""Pieces of every command: the options that several share, and what a wrong or a stopped call ends with."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from promptreach.errors import PromptreachError

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


@contextmanager
def exit_status(kept: str = "") -> Iterator[None]:
    """The work of a command: a wrong call or input says why, one line a fault, and exits with 2; Ctrl-C with 130.

    Args:
        kept: a sentence for Ctrl-C that says what is left and how to go on from it.
    """
    try:
        yield
    except PromptreachError as error:
        for fault in getattr(error, "faults", None) or [error]:
            typer.echo(f"promptreach: {fault}", err=True)
        raise SystemExit(2) from error
    except KeyboardInterrupt:
        typer.echo(f"\nStopped. {kept}".rstrip(), err=True)
        raise SystemExit(130) from None
