"""How every command says that the call or its input is wrong."""

from typing import NoReturn

import typer


def refuse(error: Exception) -> NoReturn:
    """Say what is wrong with the call or its input, one line a fault, and exit with 2."""
    for fault in getattr(error, "faults", None) or [error]:
        typer.echo(f"promptreach: {fault}", err=True)
    raise SystemExit(2)
