"""``promptreach claims``: the claims of the papers, listed, and each as an experiment that runs."""

from pathlib import Path
from typing import Annotated

import typer

from promptreach.cli._command import MOST_SEED, Quiet, exit_status, within
from promptreach.terminal import say, write_json


def claims(
    what: Annotated[
        list[str] | None, typer.Argument(metavar="[run ID...]", help="Nothing: list them. IDs: A2 B3 ..., or all.")
    ] = None,
    full: Annotated[bool, typer.Option("--full/--quick", help="Sizes whose results are committed.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for a page, a picture and JSON a claim.")] = None,
    seed: Annotated[int, typer.Option(callback=within(0, MOST_SEED), help="Of everything drawn.")] = 0,
    quiet: Quiet = False,
    json: Annotated[bool, typer.Option("--json", help="Print the results as JSON, one a line.")] = False,
) -> None:
    """The papers' claims as experiments: list them, or run some and say what holds here.

    Claims that train keep their finished runs in OUT/runs and go on from there when called again.

    Exit status: 0 every one that ran holds, perhaps with a caveat; 1 one does not, or was not reproduced; 2 the call is
    wrong.
    """
    from promptreach.claims import CLAIMS, ClaimVerdict, as_finding, run_claims
    from promptreach.errors import Fault, InputError
    from promptreach.report.text import print_finding

    if not what:
        _show_list(json)
        return
    verdicts = []
    with exit_status(f"Finished training runs are kept: call it again to go on in {out}." if out else ""):
        if what[0] != "run" or len(what) == 1:
            raise InputError(Fault("claims", " ".join(what), "run ID..., with A1 to B5, R1, N1 to N5, or all"))
        keys = [claim.key for claim in CLAIMS] if what[1:] == ["all"] else what[1:]
        for result in run_claims(keys, full=full, seed=seed, out=out, quiet=quiet or json):
            verdicts.append(result.verdict)
            if json:
                write_json(result.model_dump_json() + "\n")
            else:
                say(f"{result.key}: {result.title}")
                print_finding(as_finding(result))
    missed = {ClaimVerdict.FAILS, ClaimVerdict.NOT_REPRODUCED}
    raise SystemExit(1 if missed.intersection(verdicts) else 0)


def _show_list(json: bool) -> None:
    from json import dumps

    from rich.console import Console
    from rich.table import Table

    from promptreach.claims import CLAIMS

    if json:
        for claim in CLAIMS:
            named = {name: getattr(claim, name) for name in ("key", "title", "source", "statement", "needs")}
            write_json(dumps(named) + "\n")
        return
    table = Table("", "claim", "source", box=None)
    for claim in CLAIMS:
        table.add_row(claim.key, claim.title, claim.source)
    Console().print(table)
