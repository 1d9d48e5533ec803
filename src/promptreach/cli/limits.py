"""``promptreach limits``: what can be said of a model's layers without data."""

from typing import Annotated

import typer

from promptreach.cli._command import MOST_SEED, Json, Model, NumLayers, Quiet, Revision, exit_status, within
from promptreach.preflight import look


def limits(
    model: Model,
    tokens: Annotated[int, typer.Option(help="Sequence length, prompt included.")] = 64,
    seed: Annotated[int, typer.Option(callback=within(0, MOST_SEED), help="Of the random text that is looked at.")] = 0,
    revision: Revision = None,
    num_layers: NumLayers = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """How steep a model's layers are, certified and measured; no data needed.

    Exit status: 0 every layer is certified injective, 3 that is open, 2 the call or its input is wrong.
    """
    with exit_status():
        look(model, num_layers=num_layers, revision=revision)

    from promptreach.commands.limits import limits_of_model
    from promptreach.hf import open_model
    from promptreach.report.text import print_finding

    with exit_status():
        finding = limits_of_model(open_model(model, revision=revision, num_layers=num_layers), tokens, seed)
    print_finding(finding, as_json=json)
    done = finding.status == "done"
    raise SystemExit(0 if done and finding.values["certified_layers"] == finding.values["layers"] else 3)
