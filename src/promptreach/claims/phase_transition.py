"""B3: how the norm of queries and keys decides what fast attention costs, on synthetic and on real heads."""

import itertools
import math

import torch
from torch import Tensor

from promptreach.certificate import Evidence
from promptreach.claims.claim import Claim, ClaimVerdict, Hypothesis, Outcome, Setting
from promptreach.claims.linear_time import inside_criterion
from promptreach.claims.packaged import MINILM, minilm
from promptreach.fast_attention.norm_report import norm_report
from promptreach.hf import LayerCapture, capture
from promptreach.report.findings import Cell, Curve, Series, Table, Text

TOL = 1e-2
WORDS = (
    "a prompt in front of the input takes its share of attention and leaves the rest of the pattern as it was so what "
    "it can do is bounded by how much it takes and where it points and nothing else"
)
"""The text that real heads read; any will do, the criterion barely moves with it."""


def run(setting: Setting) -> Outcome:
    """The predicted share of exact attention's work over the size of queries and keys, and where real heads stand."""
    length = setting.pick(4096, 65536)
    sizes = [0.1 * 2 ** (step / 2) for step in range(setting.pick(9, 13))]
    root = math.log(length) ** 0.5
    ratios: list[float] = []
    works: list[float | None] = []
    rows: list[list[Cell]] = []
    for size in setting.followed(sizes, "sizes of the entries"):
        query, key, _ = inside_criterion(length, setting.seed, size)
        report = norm_report(query[None, None], key[None, None], tol=TOL)
        ratio = float(report.criterion.joined.centred_ratio.max())
        ratios.append(ratio)
        works.append(report.joined.work[0])
        rows.append([size, ratio, report.joined.degree[0], report.joined.rank[0], report.joined.work[0]])
    real, real_works = _real_heads(setting)
    reach = [work for work in works if work is not None]
    rises = all(first <= second for first, second in itertools.pairwise(reach))
    turn = next((ratio for ratio, work in zip(ratios, works, strict=True) if work is None or work >= 1), None)
    cheap = sum(work is not None and work < 1 for work in real_works)
    return Outcome(
        verdict=ClaimVerdict.CAVEAT,
        because=f"The work of the polynomial method rises from {reach[0] if reach else math.nan:.2g} of exact "
        f"attention's to more than all of it at entries of {turn or math.nan:.2g} times sqrt(log n), n = {length:,}. "
        f"Real heads after the exact centring stand at {min(real):.1f} to {max(real):.1f} times: {cheap} of "
        f"{len(real)} are cheap for this method at one text's length. The theorem's boundary is asymptotic with "
        "unspecified constants, so no finite n has a threshold; beyond it other methods still work on many real heads.",
        evidence=Evidence.PREDICTED,
        conditions={
            "less than half of exact attention's work at the smallest entries": bool(reach) and reach[0] < 0.5,
            "the work rises with the entries": rises,
            "it passes that of exact attention": turn is not None,
        },
        hypotheses=(
            Hypothesis.checked("entries of queries and keys next to sqrt(log n)", "measured, centred"),
            Hypothesis.checked("scores q.k over the head size", "over its root, as models compute them"),
            Hypothesis.declared(
                "n to infinity; SETH for the hard side",
                "work at one n is predicted instead, and nothing here rests on SETH",
            ),
        ),
        numbers={
            "length": length,
            "sqrt_log_length": root,
            "sizes": sizes,
            "ratio": ratios,
            "work": works,
            "turning_ratio": turn,
            "real_ratio": real,
            "real_work": real_works,
        },
        figure=Curve(
            title="What the polynomial method would cost, by the size of queries and keys",
            x_label="largest centred entry / sqrt(log n)",
            y_label="predicted work, exact = 1",
            log_x=True,
            log_y=True,
            series=[
                Series(
                    name=f"synthetic heads of size 8, n = {length:,}",
                    x=[ratio for ratio, work in zip(ratios, works, strict=True) if work is not None],
                    y=reach,
                ),
                Series(name="as much work as exact attention", x=[min(ratios), max(*ratios, *real)], y=[1.0, 1.0]),
            ],
            note=f"Range error {TOL:g}, proved when it runs; work is predicted. Real heads stand at ratios of "
            f"{min(real):.1f} to {max(real):.1f}.",
        ),
        blocks=(
            Table(
                title="Synthetic heads",
                columns=["entry deviation", "ratio", "degree", "features", "predicted work"],
                rows=rows,
                note="A dash: no degree fits the workspace.",
            ),
            Text(text="Measured speed on 72 real heads, by this ratio: docs/inference.md."),
        ),
    )


def _real_heads(setting: Setting) -> tuple[list[float], list[float | None]]:
    """Ratio and predicted work of every head of MiniLM on one text."""
    model = minilm(setting.pick(2, None))
    batch = model.batch(model.tokenize([" ".join([WORDS] * setting.pick(3, 10))]))

    def read(layer: LayerCapture) -> tuple[Tensor, tuple[float | None, ...]]:
        report = norm_report(layer.query, layer.key, scale=layer.scale, tol=TOL)
        return report.criterion.joined.centred_ratio, report.joined.work

    with torch.no_grad():
        layers = capture(model, batch, reduce=read)
    return [float(ratio) for ratios, _ in layers for ratio in ratios.flatten()], [w for _, work in layers for w in work]


CLAIM = Claim(
    key="B3",
    title="A phase transition in the norm of queries and keys",
    source="Hu et al. 2025, Theorems 3.1 and 3.2",
    statement="Prompt inference can be almost linear in time when the entries of prompt-induced queries and keys stay "
    "below sqrt(log n), and (under SETH) cannot be below quadratic when they reach it.",
    run=run,
    needs=(MINILM,),
)
