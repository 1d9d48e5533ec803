"""The table of what works where, made from benchmarks/results/families.json."""

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results" / "families.json"
METHODS = {"prompt": "prompt", "prefix": "prefix", "lora": "LoRA"}
OTHERS = {"capture": "attention seen", "precompute": "prompt computed once", "limits": "limits"}
NO_GRADIENT = "nothing that it trains gets a gradient on the CPU"


def summary() -> str:
    """Counts over all families, and the largest deviations."""
    found = json.loads(RESULTS.read_text(encoding="utf-8"))
    rows = found["families"].values()
    counts = {name: sum(row[key]["works"] for row in rows) for key, name in (METHODS | OTHERS).items()}
    peft = [row[key].get("peft") for row in rows for key in METHODS]
    compared = [deviation for deviation in peft if deviation is not None]
    seen = [row["capture"] for row in rows if row["capture"]["works"]]
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    named = ", ".join(f"{name} on {count}" for name, count in counts.items())
    return "\n".join(
        [
            f"MEASURED on tiny random models of {len(rows)} families ({versions}): {named}.",
            "",
            f"- Against a `PeftModel` with the same saved folder, {len(compared)} cells: the largest deviation is "
            f"{max(compared):.1e} of the largest entry. {peft.count(None) - _missing(rows)} more cells work here and "
            "not in PEFT.",
            f"- Attention written out from what was captured, on {len(seen)} families: within "
            f"{max(entry['error'] for entry in seen):.1e} of what the model's own function gave; looking on changed "
            f"the states of {sum(not entry['bit_equal'] for entry in seen)} of them in some bit.",
            f"- {len(found['not_built'])} families were not built this small, for lack of a package or because their "
            f"config hides its sizes; {len(found['refused'])} are refused by name: {', '.join(found['refused'])}.",
        ]
    )


def table() -> str:
    """One row a family: yes, or the number of the reason below."""
    found = json.loads(RESULTS.read_text(encoding="utf-8"))["families"]
    reasons: dict[str, int] = {}
    names = METHODS | OTHERS
    lines = [f"| family | {' | '.join(names.values())} |", f"|---|{'---|' * len(names)}"]
    for family, row in sorted(found.items()):
        cells = []
        for key in names:
            cell = row[key]
            reason = "" if cell["works"] else _reason(cell, family)
            cells.append(f"no ({reasons.setdefault(reason, len(reasons) + 1)})" if reason else _how(row, key))
        lines.append(f"| {family} | {' | '.join(cells)} |")
    notes = [f"{number}. {reason}" for reason, number in reasons.items()]
    return "\n".join([*lines, "", *notes])


def _how(row: dict[str, Any], key: str) -> str:
    if key == "prefix" and row["prefix_by"] == "door":
        return "yes, at attention"
    if key == "capture" and row[key]["beside_scores"]:
        return f"yes, with {' and '.join(part.partition(' on ')[0] for part in row[key]['beside_scores'])}"
    return "yes"


def _reason(cell: dict[str, Any], family: str) -> str:
    reason = cell.get("reason") or NO_GRADIENT
    if "error" in cell:
        reason = "attention does something beside a softmax of scores"
    reason = reason.removeprefix(f"{family}: ").rstrip(".")
    return reason[0].upper() + reason[1:] + "."


def _missing(rows: Any) -> int:
    return sum(not row[key]["works"] and "peft" not in row[key] for row in rows for key in METHODS)
