"""``promptreach inspect``: what an adapter folder is, and whether it is whole."""

from pathlib import Path
from typing import Annotated

import typer

from promptreach.cli._command import Json, Quiet, Revision, exit_status
from promptreach.preflight import look


def inspect(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A PEFT folder.")],
    model: Annotated[
        str | None, typer.Option(show_default="as DIR says, if it is here", help="Hub id, folder, or GGUF file.")
    ] = None,
    revision: Revision = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """What an adapter folder is, whether its parts agree, and which servers take it.

    Kind, tokens or rank, base and start; every fault of config, tensors and base; norms beside the base's own;
    whether it changes anything; a table of servers. Nothing is downloaded unless MODEL is.

    Exit status: 0 its parts agree as far as they were seen, 2 they do not, or the call is wrong.
    """
    with exit_status():
        look(model, adapter=folder, revision=revision)

    from promptreach.commands.inspect import inspect_adapter
    from promptreach.report.text import print_finding

    with exit_status():
        finding = inspect_adapter(folder, model=model, revision=revision)
    print_finding(finding, as_json=json)
    raise SystemExit(2 if finding.values["faults"] else 0)
