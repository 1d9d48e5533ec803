"""``promptreach attend``: what fast attention could do on a model's own heads."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from promptreach.cli.refusal import refuse


class _Unit(StrEnum):
    range = "range"
    deviation = "deviation"


def attend(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Hub id, folder, or GGUF file.")],
    text: Annotated[
        list[Path] | None, typer.Option(show_default="random tokens", help="Text to read; may be given again.")
    ] = None,
    adapter: Annotated[Path | None, typer.Option(help="A PEFT folder with a prompt or a prefix.")] = None,
    tokens: Annotated[int, typer.Option(help="How many tokens to read, without the prompt.")] = 256,
    tol: Annotated[float, typer.Option(help="Error wanted.")] = 1e-2,
    relative_to: Annotated[_Unit, typer.Option(help="What the error is relative to.")] = _Unit.range,
    seed: Annotated[int, typer.Option(help="Of random tokens.")] = 0,
    revision: Annotated[str | None, typer.Option(help="Of a hub id.")] = None,
    num_layers: Annotated[int | None, typer.Option(help="Only the first N layers.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the finding as JSON.")] = False,
) -> None:
    """What fast attention could do on a model's heads, and which method the planner takes.

    Exit status: 0 done, 2 the call or its input is wrong.
    """
    from promptreach.commands.attend import attention_of_model
    from promptreach.errors import PromptreachError
    from promptreach.hf import open_model
    from promptreach.hf.adapters.folders import load_prompt
    from promptreach.hf.running.material import read_texts
    from promptreach.progress import Progress
    from promptreach.report.json import render_finding
    from promptreach.report.text import print_finding

    try:
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
    except PromptreachError as error:
        refuse(error)
    if json:
        sys.stdout.write(render_finding(finding))
    else:
        print_finding(finding)
