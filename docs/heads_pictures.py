"""The pictures of real heads, made from benchmarks/results/inference_real_heads.json."""

import json
from pathlib import Path
from typing import Any

from promptreach.report.findings import Curve, Heatmap, Series
from promptreach.report.picture import picture_svg

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results" / "inference_real_heads.json"
METHODS = {"landmark": "landmarks", "clustered": "clusters", "exact": "exact attention (the planner fell back)"}


def pictures() -> dict[str, str]:
    """Both pictures by their file's name: times faster by layer and head, and by the size of entries."""
    rows: dict[str, dict[str, Any]] = json.loads(RESULTS.read_text(encoding="utf-8"))["medium"]
    return {"inference_heads.svg": _heads(rows), "inference_phase.svg": _phase(list(rows.values()))}


def _heads(rows: dict[str, dict[str, Any]]) -> str:
    faster: list[list[float | None]] = [[rows[f"{layer}.{head}"]["faster"] for head in range(12)] for layer in range(6)]
    title = "Times faster than exact attention at 5 % relative error"
    return str(picture_svg(Heatmap(title=title, values=faster, unit="times", low=0.0)))


def _phase(rows: list[dict[str, Any]]) -> str:
    series = [
        Series(name=name, x=[row["entry_ratio"] for row in found], y=[row["faster"] for row in found])
        for method, name in METHODS.items()
        if (found := [row for row in rows if row["method"] == method])
    ]
    return str(
        picture_svg(
            Curve(
                title="Beyond the criterion, many real heads are still cheap",
                x_label="largest centred entry of q and k / sqrt(log n)",
                y_label="times faster than exact",
                log_x=True,
                scatter=True,
                series=series,
                note="72 heads of MiniLM, 65,536 tokens, relative error at most 5 %. The boundary is asymptotic: no "
                "finite length has a threshold on this axis.",
            )
        )
    )
