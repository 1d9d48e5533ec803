"""What a prompt can do, in three pictures, each drawn from what is measured here.

python examples/compile_functions.py                          all three, in under a minute
python examples/compile_functions.py --pictures three_functions

three_functions   one frozen transformer plays three functions, by prompt alone
error_by_length   the error of the four constructions against the length of the prompt, with the papers' rates
separation        how many digits it takes to tell contexts apart: as the papers prove, and as achieved
"""

import argparse
import math
import re
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from promptreach.compiler import PlanTooLargeError, build_backbone
from promptreach.compiler.gallery import random_function
from promptreach.compiler.verify import measure
from promptreach.report.findings import Curve, Series
from promptreach.report.picture import picture_svg

FAMILIES = 5  # ridge sums, distances, lookups, products, mixtures


def wave(x: np.ndarray) -> np.ndarray:
    return 0.5 + 0.33 * np.sin(9 * x)


def valley(x: np.ndarray) -> np.ndarray:
    return 0.1 + 1.5 * np.abs(x - 0.45)


def plateau(x: np.ndarray) -> np.ndarray:
    return np.clip(np.minimum(3 * x - 0.3, 2.4 - 2.2 * x), 0.1, 0.85)


def three_functions() -> str:
    """One backbone of constant 3 at tol 0.05, three prompts; target and output of each."""
    backbone = build_backbone(1, 1, 3.0, 0.05)
    # Multiples of the golden ratio miss the edges of the grid, where ramps 1e-7 wide are.
    x = (torch.arange(240, dtype=torch.float64) + (math.sqrt(5) - 1) / 2) / 240
    pictures = []
    for function in (wave, valley, plateau):
        prompt = backbone.prompt_for(function)
        with torch.no_grad():
            output = backbone(x.reshape(-1, 1, 1), prompt).flatten()
        error = float(np.sqrt(np.square(output.numpy() - function(x.numpy())).mean()))
        print(f"{function.__name__}: error {error:.4f}, certificate {prompt.certificate.value:.4f}")
        curve = Curve(
            title=f"Prompt {len(pictures) + 1}: {function.__name__}",
            x_label="input",
            y_label="value",
            series=[
                Series(name="the function asked for", x=x.tolist(), y=function(x.numpy()).tolist()),
                Series(name="the transformer's output", x=x.tolist(), y=output.tolist()),
            ],
            note=f"Error {error:.3f}, proved to be at most {prompt.certificate.value:.3f}.",
        )
        # Without the marks of its points, which only pages show, a picture is a tenth of the size.
        pictures.append(re.sub(r'<g class="row[^>]*>.*?</g>', "", str(picture_svg(curve)), flags=re.DOTALL))
    plan = backbone.plan
    title = (
        f"One transformer, {plan.parameters:,} weights, all of them fixed before any function is seen; three prompts "
        f"of {plan.slots} virtual tokens, in which {plan.table_entries} numbers differ"
    )
    return side_by_side(title, pictures)


def error_by_length() -> str:
    """The largest measured error over five functions of constant 1, dim = tokens = 1, at every size that fits."""
    found: dict[str, dict[int, float]] = {}
    for construction in ("programmable", "kernel", "single_layer", "deep"):
        for tol in (0.3, 0.2, 0.15, 0.1, 0.07, 0.05, 0.035, 0.025, 0.017, 0.012, 0.008, 0.005, 0.003):
            began = time.perf_counter()
            try:
                backbone = build_backbone(1, 1, 1.0, tol, construction)
            except PlanTooLargeError as refusal:
                print(f"{construction} stops above tol {tol:g}: nearest that fits {refusal.nearest_tol}")
                break
            worst = 0.0
            for seed in range(FAMILIES):
                target = random_function(1, 1, 1.0, seed)
                prompt = backbone.prompt_for(target)
                worst = max(worst, measure(backbone, prompt, target, seed=100 + seed).error.value)
            lengths = found.setdefault(construction, {})
            lengths[backbone.plan.slots] = min(worst, lengths.get(backbone.plan.slots, math.inf))
            print(
                f"{construction}, tol {tol:g}: {backbone.plan.slots} tokens, error {worst:.4f}, certificate "
                f"{prompt.certificate.value:.4f} ({time.perf_counter() - began:.1f} s)",
                flush=True,
            )
    lengths = [1, max(found["kernel"])]
    names = {
        "programmable": "programmable (ours): a table",
        "kernel": "kernel (Petrov et al.): a smoother",
        "single_layer": "single_layer (Hu et al.): stops where its weights would not fit",
        "deep": "deep (Wang et al.): stops where its ids outgrow float64",
    }
    series = [Series(name=names[name], x=list(points), y=list(points.values())) for name, points in found.items()]
    series.append(
        Series(name="papers A and B: error 2 C / length suffices", x=lengths, y=[2 / length for length in lengths])
    )
    series.append(
        Series(
            name="Petrov et al.: length = error^-28, without its constant",
            x=lengths,
            y=[length ** (-1 / 28) for length in lengths],
        )
    )
    return str(
        picture_svg(
            Curve(
                title="Error against the length of the prompt",
                x_label="virtual tokens",
                y_label="error",
                log_x=True,
                log_y=True,
                series=series,
                note="One token of one number, Lipschitz constant 1; the largest error of five functions, all played "
                "by one backbone, on 20,000 fresh points.",
            )
        )
    )


def separation() -> str:
    """Digits that tell the closest contexts apart, by the size of paper B's contextual map."""
    rows = []
    for tol in (0.3, 0.2, 0.15, 0.12, 0.1, 0.08):
        backbone = build_backbone(1, 1, 1.0, tol, "single_layer")
        plan = backbone.plan
        seen = backbone.measured_separation()
        (proved,) = [row.paper_log10 for row in plan.compared if row.what == "separation of ids"]
        achieved = math.log10(seen.largest) - seen.apart_log10
        rows.append((seen.count, -proved, achieved, math.log10(seen.count - 1)))
        print(
            f"tol {tol:g}: {seen.count} contexts; digits: {-proved:.3g} (Hu et al.), "
            f"{achieved:.2f} achieved, {rows[-1][-1]:.2f} at least",
            flush=True,
        )
    contexts, paper, achieved, least = (list(column) for column in zip(*rows, strict=True))
    return str(
        picture_svg(
            Curve(
                title="Digits that it takes to tell two contexts apart",
                x_label="contexts",
                y_label="decimal digits",
                log_x=True,
                log_y=True,
                series=[
                    Series(name="proved by Hu et al., Lemma 2.2", x=contexts, y=paper),
                    Series(name="achieved by the weights built here", x=contexts, y=achieved),
                    Series(name="least possible for so many contexts", x=contexts, y=least),
                    Series(name="proved by Kajitsuka & Sato, rank one", x=contexts, y=rank_one),
                    Series(name="what float64 keeps", x=contexts, y=[16.0] * len(contexts)),
                ],
                note="One softmax head, dim = tokens = 1. The papers' numbers are lower bounds on what some map "
                "achieves, not what a good one does.",
            )
        )
    )


def side_by_side(title: str, pictures: list[str]) -> str:
    """Pictures of one size in a row under a title, as one SVG document."""
    width, height = (float(side) for side in re.search(r'viewBox="0 0 ([0-9.]+) ([0-9.]+)"', pictures[0]).groups())
    total, top = width * len(pictures), 34
    moved = [
        re.sub(
            r'<svg ([^>]*?)width="\d+"',
            rf'<svg \1x="{index * width}" y="{top}" width="{width}" height="{height}"',
            picture,
            count=1,
        )
        for index, picture in enumerate(pictures)
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {total} {height + top}" width="{round(total)}" '
        f'role="img" aria-label="{title}"><rect width="100%" height="100%" style="fill: var(--paper)"/>'
        f'<text x="12" y="22" style="font: 600 13px system-ui, sans-serif; fill: var(--ink)">{title}</text>'
        f"{''.join(moved)}</svg>\n"
    )


PICTURES: dict[str, Callable[[], str]] = {
    "three_functions": three_functions,
    "error_by_length": error_by_length,
    "separation": separation,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", nargs="+", choices=PICTURES, default=list(PICTURES))
    parser.add_argument("--out", type=Path, default=Path("docs/pictures"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for name in options.pictures:
        path = options.out / f"{name}.svg"
        path.write_text(PICTURES[name](), encoding="utf-8")
        print(f"picture: {path}")


if __name__ == "__main__":
    main()
