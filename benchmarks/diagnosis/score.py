"""Scores of the suite's rows: how often right, and how often wrong while claiming to be sure.

A verdict is right when it is one of those that the construction allows. Three ways of being wrong are told apart:
`wrong_while_proved` (must not happen), `wrong_while_measured` (another verdict than the true one), and `undecided`
where the truth can be decided, which is a miss but misleads nobody.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from tasks import HALVES

Row = dict[str, Any]


def scores(rows: Sequence[Row]) -> dict[str, Any]:
    """Both headline numbers of the reported half, then everything by half, kind and model."""
    reported = [row for row in rows if row["half"] == "reported"]
    headline = score(reported)
    return {
        "share_right": headline["share_right"],
        "wrong_while_proved": headline["wrong_while_proved"],
        "halves": {half: score([row for row in rows if row["half"] == half]) for half in HALVES},
        "seeds": grouped(reported, lambda row: str(row["seed"])),
        "kinds": grouped(rows, lambda row: f"{row['kind']}, {row['half']}"),
        "expected": grouped(reported, lambda row: " or ".join(row["expected"])),
        "confusion": confusion(reported),
        "models": grouped(rows, lambda row: f"{row['model']}, {row['half']}"),
    }


def score(rows: Sequence[Row]) -> dict[str, Any]:
    """Counts and shares of some rows; a share of no rows is None."""
    wrong = [row for row in rows if not row["right"]]
    return {
        "diagnoses": len(rows),
        "share_right": 1 - len(wrong) / len(rows) if rows else None,
        "wrong_while_proved": sum(row["evidence"] == "PROVED" for row in wrong),
        "wrong_while_measured": sum(row["evidence"] == "MEASURED" for row in wrong),
        "share_wrong_while_measured": sum(row["evidence"] == "MEASURED" for row in wrong) / len(rows) if rows else None,
        "undecided": sum(row["verdict"] == "UNDECIDED" for row in wrong),
        "verdicts": dict(sorted(Counter(row["verdict"] for row in rows).items())),
        "seconds": round(sum(row["seconds"] for row in rows), 1),
    }


def confusion(rows: Sequence[Row]) -> dict[str, dict[str, int]]:
    """How often each verdict was given, by what was expected."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        found[" or ".join(row["expected"])][row["verdict"]] += 1
    return {expected: dict(sorted(counts.items())) for expected, counts in sorted(found.items())}


def grouped(rows: Sequence[Row], key: Callable[[Row], str]) -> dict[str, Any]:
    return {name: score([row for row in rows if key(row) == name]) for name in sorted({key(row) for row in rows})}


def as_markdown(counts: dict[str, dict[str, int]]) -> str:
    """The confusion matrix as a table: what was expected down, what was said across."""
    verdicts = sorted({verdict for given in counts.values() for verdict in given})
    rows = [["true cause", *verdicts], ["---"] * (len(verdicts) + 1)]
    rows += [[expected, *(str(given.get(verdict, 0)) for verdict in verdicts)] for expected, given in counts.items()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def listing(rows: Sequence[Row]) -> str:
    """One line a diagnosis that is not right."""
    lines = [
        f"{row['task']}, seed {row['seed']} ({row['half']}): {row['verdict']} [{row['evidence']}], "
        f"expected {' or '.join(row['expected'])}: {row['headline']}"
        for row in rows
        if not row["right"]
    ]
    return "\n".join(lines) or "All right."
