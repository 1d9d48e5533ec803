"""The command line, one file a command: it parses, calls the library and makes an exit status of it; no logic here.

Heavy imports happen inside the commands, so that ``--help`` answers at once.
"""

import typer

from promptreach.cli.attend import attend
from promptreach.cli.audit import audit
from promptreach.cli.capacity import capacity
from promptreach.cli.claims import claims
from promptreach.cli.compile import compile
from promptreach.cli.limits import limits
from promptreach.cli.shrink import shrink

app = typer.Typer(
    name="promptreach",
    help="What a soft prompt can and cannot do to your model, before you spend the compute.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

# In the order in which `--help` shows them.
for command in (audit, limits, compile, attend, shrink, capacity, claims):
    app.command()(command)


@app.callback()
def _root() -> None:
    """What a soft prompt can and cannot do to your model, before you spend the compute."""


def main() -> None:
    """The entry point of the console script."""
    app()
