"""``promptreach limits``: what can be said of a model's layers without data."""

import sys
from typing import Annotated

import typer

from promptreach.cli.refusal import refuse


def limits(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Hub id, folder, or GGUF file.")],
    tokens: Annotated[int, typer.Option(help="Sequence length, prompt included.")] = 64,
    seed: Annotated[int, typer.Option(help="Of the random text that is looked at.")] = 0,
    revision: Annotated[str | None, typer.Option(help="Of a hub id.")] = None,
    num_layers: Annotated[int | None, typer.Option(help="Only the first N layers.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the finding as JSON.")] = False,
) -> None:
    """How steep a model's layers are, certified and measured; no data needed.

    Exit status: 0 every layer is certified injective, 3 that is open, 2 the call or its input is wrong.
    """
    from promptreach.commands.limits import limits_of_model
    from promptreach.errors import PromptreachError
    from promptreach.hf import open_model
    from promptreach.report.json import render_finding
    from promptreach.report.text import print_finding

    try:
        opened = open_model(model, revision=revision, num_layers=num_layers)
        finding = limits_of_model(opened, tokens, seed)
    except PromptreachError as error:
        refuse(error)
    if json:
        sys.stdout.write(render_finding(finding))
    else:
        print_finding(finding)
    done = finding.status == "done"
    raise SystemExit(0 if done and finding.values["certified_layers"] == finding.values["layers"] else 3)
