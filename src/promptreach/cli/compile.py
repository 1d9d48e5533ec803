"""``promptreach compile``: a function as a frozen transformer, a prompt and a certificate."""

from pathlib import Path
from typing import Annotated

import typer

from promptreach.cli._command import MOST_SEED, Json, Quiet, exit_status, within
from promptreach.terminal import say, write_json


def compile(
    function: Annotated[
        str,
        typer.Argument(
            metavar="FUNCTION",
            help="package.module:function, found from the current folder (importing it runs its code), or one of the "
            "gallery: ridge, smooth, distance, lookup, product, mixture, reverse, sort, average.",
        ),
    ],
    dim: Annotated[int, typer.Option(help="Size of one token.")] = 1,
    tokens: Annotated[int, typer.Option(help="Tokens of one input.")] = 1,
    lipschitz: Annotated[float, typer.Option(help="Constant that you declare, 2-norm over all entries.")] = 1.0,
    tol: Annotated[float, typer.Option(help="Root of the mean squared error over inputs that you want.")] = 0.1,
    construction: Annotated[
        str, typer.Option(help="programmable, multilinear, single_layer, deep, kernel or one_for_all.")
    ] = "programmable",
    option: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="The construction's own; may be given again.")
    ] = None,
    float32: Annotated[bool, typer.Option("--float32", help="Where the certificate allows.")] = False,
    memory: Annotated[float, typer.Option(help="GiB granted.")] = 2.0,
    points: Annotated[int, typer.Option(help="Fresh points to try it on.")] = 20_000,
    seed: Annotated[int, typer.Option(callback=within(0, MOST_SEED), help="Of fresh points, and of the gallery.")] = 0,
    out: Annotated[Path, typer.Option(help="Where everything goes.")] = Path("promptreach-compiled"),
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Compile a function into a frozen transformer and a prompt, try it, draw it, save it.

    The function maps an array (tokens, dim) with entries in [0, 1] to one of the same kind. OUT receives page.html,
    model (for transformers), prompt (a PEFT folder), certificate.json and compiled.json, instead of an earlier result.

    Exit status: 0 the certificate is within tol and the fresh points do not speak against it; 1 they do, by more than
    five standard errors, so the function is steeper than declared; 2 the call is wrong, or memory too small.
    """
    import torch

    from promptreach.commands.compile import bytes_of, compile_function, parse_options
    from promptreach.commands.compile_findings import error_finding
    from promptreach.progress import Progress
    from promptreach.report.text import print_finding

    with exit_status(), Progress(quiet=quiet or json) as progress:
        compiled, record = compile_function(
            function,
            dim=dim,
            tokens=tokens,
            lipschitz=lipschitz,
            tol=tol,
            construction=construction,
            options=parse_options(option or []),
            dtype=torch.float32 if float32 else torch.float64,
            memory=bytes_of(memory),
            points=points,
            seed=seed,
            out=out,
            progress=progress,
            say=(lambda _: None) if json else say,
        )
    if json:
        write_json(record + "\n")
    else:
        say("")
        print_finding(error_finding(compiled))
        say(f"\nPage, model, prompt and certificate: {out}")
    raise SystemExit(0 if compiled.holds else 1)
