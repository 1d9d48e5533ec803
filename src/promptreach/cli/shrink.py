"""``promptreach shrink``: a trained prompt or prefix with fewer slots, and what that costs."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from promptreach.cli.refusal import refuse


class _Budgets(StrEnum):
    equal = "equal"
    by_head = "by head"


def shrink(
    adapter: Annotated[Path, typer.Argument(metavar="ADAPTER", help="A PEFT folder with a prompt or a prefix.")],
    tokens: Annotated[int, typer.Option(help="Slots wanted.")],
    model: Annotated[
        str | None, typer.Option(show_default="as ADAPTER says", help="Hub id, folder, or GGUF file.")
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
    seed: Annotated[int, typer.Option(help="The same seed gives the same prefix.")] = 0,
    revision: Annotated[str | None, typer.Option(help="Of a hub id.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the finding as JSON.")] = False,
) -> None:
    """A trained prompt or prefix with fewer slots, and the loss that it costs.

    It is fitted so that attention hardly notices. A prompt becomes a prefix on the way. The last quarter of
    the text is kept aside to measure on. OUT is a PEFT folder.

    Exit status: 0 done, 2 the call or its input is wrong.
    """
    import torch

    from promptreach.commands.shrink import shortened_finding
    from promptreach.errors import PromptreachError
    from promptreach.files import atomic_folder
    from promptreach.hf import open_model, precompute, save_adapter, shorten
    from promptreach.hf.adapters.folders import CONFIG, base_model_of
    from promptreach.hf.running.material import pieces_of, read_texts, written_by
    from promptreach.progress import Progress
    from promptreach.report.json import render_finding
    from promptreach.report.text import print_finding

    try:
        texts = read_texts(text or [])
        base = model or base_model_of(adapter)
        named = adapter if adapter.name.strip(".") else adapter.resolve()  # "." has no name to go by
        target = out or named.parent / f"{named.name}-{tokens}"
        # Around the work, so that a folder that cannot be written or replaced is refused before it.
        with atomic_folder(target, replace=(target / CONFIG).is_file()) as folder:
            opened = open_model(base, revision=revision)
            cache = precompute(opened, adapter)
            room = opened.max_positions - cache.length
            pieces = pieces_of(opened, texts, room) if texts else written_by(cache, room, seed)
            kept = max(1, len(pieces) // 4)
            with Progress(quiet=quiet or json) as progress, progress.task("fitting", total=opened.num_layers) as step:
                short = shorten(
                    opened,
                    cache.prefix,
                    tokens,
                    pieces[:-kept],
                    pieces[-kept:],
                    budgets=budgets.value,
                    steps=steps,
                    generator=torch.Generator().manual_seed(seed),
                    progress=lambda done, total: step(),
                )
            save_adapter(folder, opened, short.prefix)
    except PromptreachError as error:
        refuse(error)
    finding = shortened_finding(short, cache.length)
    if json:
        sys.stdout.write(render_finding(finding))
    else:
        print_finding(finding)
        typer.echo(f"\nShorter prefix: {target}")
