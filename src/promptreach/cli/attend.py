"""``promptreach attend``: what fast attention could do on a model's own heads."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from promptreach.cli._command import MOST_SEED, Adapter, Json, Model, NumLayers, Quiet, Revision, exit_status, within
from promptreach.preflight import look


class _Unit(StrEnum):
    range = "range"
    deviation = "deviation"


def attend(
    model: Model,
    text: Annotated[
        list[Path] | None, typer.Option(show_default="random tokens", help="Text to read; may be given again.")
    ] = None,
    adapter: Adapter = None,
    tokens: Annotated[int, typer.Option(help="How many tokens to read, without the prompt.")] = 256,
    tol: Annotated[float, typer.Option(help="Error wanted.")] = 1e-2,
    relative_to: Annotated[_Unit, typer.Option(help="What the error is relative to.")] = _Unit.range,
    seed: Annotated[int, typer.Option(callback=within(0, MOST_SEED), help="Of random tokens.")] = 0,
    revision: Revision = None,
    num_layers: NumLayers = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """What fast attention could do on a model's heads, and which method the planner takes.

    Exit status: 0 done, 2 the call or its input is wrong.
    """
    with exit_status():
        look(model, adapter=adapter, texts=text or (), num_layers=num_layers, revision=revision)

    from promptreach.commands.attend import attention_of_model
    from promptreach.hf import open_model
    from promptreach.hf.adapters.folders import load_prompt
    from promptreach.hf.running.calibration import read_texts
    from promptreach.progress import Progress
    from promptreach.report.text import print_finding

    with exit_status():
        texts = read_texts(text or [])
        opened = open_model(model, revision=revision, num_layers=num_layers)
        prompt = load_prompt(adapter, opened) if adapter else None
        ids = [token for ids in opened.tokenize(texts) for token in ids] if texts else None
        with Progress(quiet=quiet or json) as progress, progress.task("heads", total=opened.num_layers) as step:
            finding = attention_of_model(
                opened,
                ids,
                tokens,
                prompt=prompt,
                tol=tol,
                relative_to=relative_to.value,
                seed=seed,
                progress=lambda done, total: step(),
            )
    print_finding(finding, as_json=json)
