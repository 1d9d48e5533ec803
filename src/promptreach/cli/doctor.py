"""``promptreach doctor``: what is installed, what is missing, and whether it works."""

from promptreach.cli._command import Json
from promptreach.terminal import say, write_json


def doctor(json: Json = False) -> None:
    """What is installed, what each missing part would give, and whether it works here.

    Exit status: 0 it works, 1 something required is broken, 2 the call is wrong.
    """
    from json import dumps

    from promptreach.doctor import examine

    found = examine()
    if json:
        write_json(dumps(found.to_dict(), indent=1) + "\n")
    else:
        say(found.as_text())
    raise SystemExit(0 if found.works else 1)
