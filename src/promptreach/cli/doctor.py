"""``promptreach doctor``: what is installed, what is missing, and whether it works; of a model, what works on it."""

from typing import Annotated, Any

import typer

from promptreach.cli._command import Json, NumLayers, Quiet, Revision, exit_status
from promptreach.preflight import look
from promptreach.terminal import say, write_json


def doctor(
    model: Annotated[str | None, typer.Argument(metavar="[MODEL]", help="Hub id, folder, or GGUF file.")] = None,
    revision: Revision = None,
    num_layers: NumLayers = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """What is installed and whether it works here; of MODEL, what works on it.

    With MODEL it is opened, and a few tokens are sent through it: whether it takes a prompt, a prefix and LoRA, whether
    its attention can be looked at, whether a prompt can be computed once, and whether limits can be proved from its
    weights. What it does not allow comes with the reason.

    Each missing part comes with what it would give and how to install it. No data are needed and nothing is trained.

    Exit status: 0 it works, 1 something required is broken, 2 the call is wrong.
    """
    if model is not None:
        with exit_status():
            look(model, revision=revision, num_layers=num_layers)
            from promptreach.hf import open_model
            from promptreach.hf.running.reach import reach_of_model

            reach = reach_of_model(open_model(model, revision=revision, num_layers=num_layers))
        _show(reach, json)
        return

    from promptreach.doctor import examine

    found = examine()
    _show(found, json)
    raise SystemExit(0 if found.works else 1)


def _show(found: Any, json: bool) -> None:
    from json import dumps

    if json:
        write_json(dumps(found.to_dict(), indent=1) + "\n")
    else:
        say(found.as_text())
