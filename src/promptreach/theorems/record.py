"""What the registry keeps of one theorem, and the papers by the names that they are cited by."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Theorem:
    """One statement and everything that stands behind its use here.

    Attributes:
        key: what certificates call it.
        paper: authors and year, with the arXiv number; ``"here"`` for what this project derived.
        number: the paper's own number, or empty.
        statement: with its quantifiers, in the library's notation.
        hypotheses: what has to hold; a PROVED certificate has checked each of them.
        function: ``"module:function"`` inside promptreach, or empty where the statement only informs a docstring.
        test: the file that tests it, relative to the project.
        claim: the claim that runs it as an experiment, a key of `promptreach.claims.CLAIMS`, or empty.
        confidence: how the statement is known.
    """

    key: str
    paper: str
    number: str
    statement: str
    hypotheses: tuple[str, ...]
    function: str
    test: str
    claim: str = ""
    confidence: str = "proved in the docstring or comments of its function"


PETROV = "Petrov, Torr, Bibi 2024 (2310.19698)"
PAPER_A = "Wang et al. 2023 (2305.18787)"
PAPER_B = "Hu et al. 2025 (2411.16525)"
