"""``promptreach doctor``: what is installed, what is missing, and whether it works."""

import typer

from promptreach.cli._command import Json


def doctor(json: Json = False) -> None:
    """What is installed, what each missing part would give, and whether it works here.

    Exit status: 0 it works, 1 something required is broken, 2 the call is wrong.
    """
    from json import dumps

    from promptreach.doctor import examine

    found = examine()
    typer.echo(dumps(found.to_dict(), indent=1) if json else found.as_text())
    raise SystemExit(0 if found.works else 1)
