"""``promptreach claims``: the claims of the papers, listed, and each as an experiment that runs."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from promptreach.cli.refusal import refuse


def claims(
    what: Annotated[
        list[str] | None, typer.Argument(metavar="[run ID...]", help="Nothing: list them. IDs: A2 B3 ..., or all.")
    ] = None,
    full: Annotated[bool, typer.Option("--full/--quick", help="Sizes whose results are committed.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for a page, a picture and JSON a claim.")] = None,
    seed: Annotated[int, typer.Option(help="Of everything drawn.")] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the results as JSON, one a line.")] = False,
) -> None:
    """The papers' claims as experiments: list them, or run some and say what holds here.

    Claims that train keep their finished runs in OUT/runs and go on from there when called again.

    Exit status: 0 every one that ran holds, perhaps with a caveat; 1 one does not; 2 the call is wrong.
    """
    from promptreach.claims import CLAIMS
    from promptreach.errors import Fault, InputError, PromptreachError

    if not what:
        _show_list(json)
        return
    try:
        if what[0] != "run" or len(what) == 1:
            raise InputError(Fault("claims", " ".join(what), "run ID..., with A1 to B5, R1, or all"))
        keys = [claim.key for claim in CLAIMS] if what[1:] == ["all"] else what[1:]
        holds = _run(keys, full, out, seed, quiet or json, json)
    except PromptreachError as error:
        refuse(error)
    except KeyboardInterrupt:
        kept = f" Finished training runs are kept: call it again to go on in {out}." if out else ""
        typer.echo(f"\nStopped.{kept}", err=True)
        raise SystemExit(130) from None
    raise SystemExit(0 if holds else 1)


def _show_list(json: bool) -> None:
    from json import dumps

    from rich.console import Console
    from rich.table import Table

    from promptreach.claims import CLAIMS

    if json:
        for claim in CLAIMS:
            typer.echo(dumps({name: getattr(claim, name) for name in ("key", "title", "source", "statement", "needs")}))
        return
    table = Table("", "claim", "source", box=None)
    for claim in CLAIMS:
        table.add_row(claim.key, claim.title, claim.source)
    Console().print(table)


def _run(keys: list[str], full: bool, out: Path | None, seed: int, quiet: bool, json: bool) -> bool:
    """Whether none of them fails."""
    from promptreach.claims import ClaimVerdict, as_finding, claim_named, missing_packages, run_claim, write_claim
    from promptreach.errors import raise_if_any
    from promptreach.files import check_output
    from promptreach.report.text import print_finding

    chosen = [claim_named(key) for key in keys]
    raise_if_any(missing_packages(chosen))
    if out is not None:
        check_output(out, resume=True)
    verdicts = []
    for claim in chosen:
        result = run_claim(claim.key, full=full, seed=seed, folder=None if out is None else out / "runs", quiet=quiet)
        verdicts.append(result.verdict)
        if out is not None:
            write_claim(result, out)
        if json:
            sys.stdout.write(result.model_dump_json() + "\n")
        else:
            typer.echo(f"{result.key}: {result.title}")
            print_finding(as_finding(result))
    return ClaimVerdict.FAILS not in verdicts
