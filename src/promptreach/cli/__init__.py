"""The command line, one file a command: it parses, calls the library and makes an exit status of it; no logic here.

Heavy imports happen inside the commands, so that ``--help`` answers at once.
"""

import typer

from promptreach.cli._command import bounded
from promptreach.cli.attend import attend
from promptreach.cli.audit import audit
from promptreach.cli.capacity import capacity
from promptreach.cli.claims import claims
from promptreach.cli.compile import compile
from promptreach.cli.doctor import doctor
from promptreach.cli.evaluate import evaluate
from promptreach.cli.fit import fit
from promptreach.cli.inspect import inspect
from promptreach.cli.limits import limits
from promptreach.cli.predict import predict
from promptreach.cli.shrink import shrink


def _reflowed(text: str | None) -> str:
    """Paragraphs as single lines: typer would keep the line breaks of the source, which suit no terminal."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in (text or "").split("\n\n"))


app = typer.Typer(
    name="promptreach",
    help="What a soft prompt can and cannot do to your model, before you spend the compute.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

# In the order in which `--help` shows them.
for command in (audit, fit, predict, evaluate, inspect, limits, compile, attend, shrink, capacity, claims, doctor):
    app.command(help=_reflowed(command.__doc__))(bounded(command))


def main() -> None:
    """The entry point of the console script."""
    app()
