"""``promptreach shrink``: a trained prompt or prefix with fewer slots, and what that costs."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from promptreach.cli._command import MOST_SEED, Json, Quiet, Revision, exit_status, within
from promptreach.preflight import look
from promptreach.terminal import say
from promptreach.training.arguments import least_faults


class _Budgets(StrEnum):
    equal = "equal"
    by_head = "by head"


def shrink(
    adapter: Annotated[Path, typer.Argument(metavar="ADAPTER", help="A PEFT folder with a prompt or a prefix.")],
    tokens: Annotated[int, typer.Option(help="Slots wanted.")],
    model: Annotated[
        str | None, typer.Option(show_default="as ADAPTER says, if it is here", help="Hub id, folder, or GGUF file.")
    ] = None,
    text: Annotated[
        list[Path] | None,
        typer.Option(show_default="the model writes its own", help="Text like that to come; may be given again."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(show_default="beside ADAPTER", help="Where the shorter prefix goes.")
    ] = None,
    budgets: Annotated[_Budgets, typer.Option(help="The same for every head, or by need.")] = _Budgets.equal,
    steps: Annotated[int, typer.Option(help="Of gradient refinement.")] = 100,
    seed: Annotated[int, typer.Option(callback=within(0, MOST_SEED), help="The same seed gives the same prefix.")] = 0,
    revision: Revision = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """A trained prompt or prefix with fewer slots, and the loss that it costs.

    It is fitted so that attention hardly notices. A prompt becomes a prefix on the way. The last quarter of
    the text is kept aside to measure on. OUT is a PEFT folder.

    Exit status: 0 done, 2 the call or its input is wrong.
    """
    with exit_status():
        counts = least_faults({"tokens": tokens}) + least_faults({"steps": steps}, 0)
        look(model, adapter=adapter, texts=text or (), revision=revision, known=counts)

    from promptreach.commands.shrink import shorten_adapter
    from promptreach.progress import Progress
    from promptreach.report.text import print_finding

    with exit_status(), Progress(quiet=quiet or json) as progress:
        finding, target = shorten_adapter(
            adapter,
            tokens,
            model=model,
            texts=text or [],
            out=out,
            budgets=budgets.value,
            steps=steps,
            seed=seed,
            revision=revision,
            progress=progress,
        )
    print_finding(finding, as_json=json)
    if not json:
        say(f"\nShorter prefix: {target}")
