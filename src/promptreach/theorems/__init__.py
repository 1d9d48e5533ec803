"""The theorems this library rests on: where each comes from, what it needs, what uses it and which test holds it.

`Certificate.theorem` names a key of `THEOREMS`. The entries are data, in theorems.toml; an entry appears when its
function exists. The table in the documentation is `as_markdown()`, so what it says of a theorem and what the code does
cannot drift apart: a test looks up every function and every test file named there.

Statements marked "from memory" were written down without the paper's full text at hand and derived again as far as
`confidence` says; check the PDF before quoting their numbers.
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Theorem:
    """One statement and everything that stands behind its use here.

    Attributes:
        key: what certificates call it.
        statement: with its quantifiers, in the library's notation.
        hypotheses: what has to hold; a PROVED certificate has checked each of them.
        test: the file that tests it, relative to the project.
        function: ``"module:function"`` inside promptreach, or empty where the statement only informs a docstring.
        paper: authors and year, with the arXiv number; ``"here"`` for what this project derived.
        number: the paper's own number, or empty.
        claim: the claim that runs it as an experiment, a key of `promptreach.claims.CLAIMS`, or empty.
        confidence: how the statement is known.
    """

    key: str
    statement: str
    hypotheses: tuple[str, ...]
    test: str
    function: str = ""
    paper: str = "here"
    number: str = ""
    claim: str = ""
    confidence: str = "proved in the docstring or comments of its function"


def _read(path: Path) -> dict[str, Theorem]:
    """The entries of a file by key; a key that occurs twice is an error of its syntax."""
    entries = tomllib.loads(path.read_text(encoding="utf-8"))
    return {key: Theorem(key, **{**entry, "hypotheses": tuple(entry["hypotheses"])}) for key, entry in entries.items()}


THEOREMS: dict[str, Theorem] = _read(Path(__file__).with_name("theorems.toml"))
"""Every theorem by the key that `Certificate.theorem` names, in the order of the documentation's table."""


def as_markdown() -> str:
    """The documentation's table: one row a theorem."""
    lines = [
        "| Key | Source | Statement | Hypotheses | Function | Test | How it is known |",
        "|---|---|---|---|---|---|---|",
    ]
    for theorem in THEOREMS.values():
        source = (theorem.paper, theorem.number, theorem.claim and f"claim {theorem.claim}")
        cells = (
            f"`{theorem.key}`",
            ", ".join(part for part in source if part),
            theorem.statement,
            "; ".join(theorem.hypotheses),
            f"`{theorem.function.replace(':', '.')}`" if theorem.function else "",
            f"`{theorem.test}`",
            theorem.confidence,
        )
        # A bar inside a cell would end it.
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"
