"""The options that say what rows are answered with and how answers are judged, for the commands that share them."""

from collections.abc import Sequence
from typing import Annotated

import typer

from promptreach.cli._command import exit_status
from promptreach.errors import raise_if_any
from promptreach.training.arguments import repeat_faults

_PANEL = "What is answered, and how it is judged"

OptionsCol = Annotated[
    str | None, typer.Option(rich_help_panel=_PANEL, help="A list of texts, one of which is the answer.")
]
"""The column of a row's own options."""
Options = Annotated[
    list[str] | None,
    typer.Option(rich_help_panel=_PANEL, help="Texts that answers are among, or label=word."),
]
"""The options of all rows."""
AnswerPattern = Annotated[
    str | None, typer.Option(rich_help_panel=_PANEL, help="Regular expression of what is compared of a completion.")
]
"""What stands for a written answer."""
LengthNormalised = Annotated[
    bool, typer.Option("--length-normalised", rich_help_panel=_PANEL, help="Options by likelihood per character.")
]
"""The comparison that is fair to long options."""
Metric = Annotated[
    str | None,
    typer.Option(
        rich_help_panel=_PANEL,
        help="As f1 or mcc of labels, exact_match or chrf of texts.",
    ),
]
"""The score that decides."""

Instruction = Annotated[
    str | None, typer.Option(rich_help_panel=_PANEL, help="Words for the bare model, around {prompt} or in front.")
]
"""What people write instead of tuning."""
Shots = Annotated[int | None, typer.Option(rich_help_panel=_PANEL, help="Training rows to show the bare model.")]
"""How many examples stand in front of a row."""


def options_of(given: Sequence[str] | None) -> list[str] | dict[str, str] | None:
    """The options as `promptreach.tables.read_task` takes them: given one by one, or as one value with commas."""
    if not given:
        return None
    words = [word.strip() for word in (given[0].split(",") if len(given) == 1 else given)]
    if all("=" in word for word in words):
        with exit_status():
            raise_if_any(repeat_faults("--options", [word.partition("=")[0].strip() for word in words]))
        return {name.strip(): word.strip() for name, _, word in (one.partition("=") for one in words)}
    return words
