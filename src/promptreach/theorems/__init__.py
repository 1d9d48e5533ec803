"""The theorems this library rests on: where each comes from, what it needs, what uses it and which test holds it.

`Certificate.theorem` names a key of `THEOREMS`. The table in the documentation is `as_markdown()`, so what it says of a
theorem and what the code does cannot drift apart: a test looks up every function and every test file named here.

Each room has a file of entries; an entry appears when its function exists. Statements marked "from memory" were written
down without the paper's full text at hand and derived again as far as `confidence` says; check the PDF before quoting
their numbers.
"""

from promptreach.theorems import compiler, inference, limits, shared, tuning
from promptreach.theorems.record import Theorem as Theorem

ENTRIES = (*shared.ENTRIES, *limits.ENTRIES, *compiler.ENTRIES, *inference.ENTRIES, *tuning.ENTRIES)
"""Every theorem, room by room, in the order of the documentation's table."""

THEOREMS: dict[str, Theorem] = {theorem.key: theorem for theorem in ENTRIES}
"""The same by key, which is what `Certificate.theorem` names."""


def as_markdown() -> str:
    """The documentation's table: one row a theorem."""
    lines = [
        "| Key | Source | Statement | Hypotheses | Function | Test | How it is known |",
        "|---|---|---|---|---|---|---|",
    ]
    for theorem in THEOREMS.values():
        source = ", ".join(
            part for part in (theorem.paper, theorem.number, theorem.claim and f"claim {theorem.claim}") if part
        )
        function = f"`{theorem.function.replace(':', '.')}`" if theorem.function else ""
        cells = (
            f"`{theorem.key}`",
            source,
            theorem.statement,
            "; ".join(theorem.hypotheses),
            function,
            f"`{theorem.test}`",
            theorem.confidence,
        )
        # A bar inside a cell would end it.
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"
