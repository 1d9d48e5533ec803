"""B4: beyond the criterion: the instances that are hard, and a planner that knows when to give up."""

import math
from functools import partial

import torch
from torch import Tensor

from promptreach.certificate import Evidence
from promptreach.claims.claim import Claim, ClaimVerdict, Hypothesis, Outcome, Setting
from promptreach.claims.experiments import timed
from promptreach.fast_attention.attend import attend
from promptreach.fast_attention.measure import deviation_error
from promptreach.report.findings import Cell, Curve, Series, Table, Text

HEAD_DIM, TOL = 32, 0.05
CLUSTERS = 64


def run(setting: Setting) -> Outcome:
    """Heads with equally large scores, one without structure and one with it, and what the planner makes of them."""
    length = setting.pick(16384, 65536)
    sizes = setting.pick((0.5, 2.0), (0.25, 0.5, 1.0, 2.0, 4.0))
    rows: list[list[Cell]] = []
    kept = True
    ratios: dict[str, list[float]] = {"matching": [], "clustered": []}
    methods: dict[str, list[str]] = {"matching": [], "clustered": []}
    for size in setting.followed(sizes, "sizes of the entries"):
        for name, draw in (("matching", matching), ("clustered", clusters)):
            query, key, value = draw(length, size, torch.Generator().manual_seed(setting.seed))
            fast = partial(attend, query, key, value, TOL, relative_to="deviation")
            seconds, (output, report) = timed(fast, 1)
            slow, (truth, _) = timed(partial(attend, query, key, value, method="exact"), 1)
            error = deviation_error(output, truth)
            kept &= error <= TOL
            ratios[name].append(slow / seconds)
            methods[name].append(report.method)
            rows.append([name, size, report.method, error, slow / seconds, float(query.abs().max())])
    # The largest entries at which clusters are answered fast: as large ones without clusters must be hard.
    easy = [index for index, method in enumerate(methods["clustered"]) if method != "exact"]
    far = easy[-1] if easy else -1
    falls_back = methods["matching"][far] == methods["matching"][-1] == "exact"
    root = math.log(length) ** 0.5
    missed = "" if far + 1 == len(sizes) else f" Beyond {sizes[far]:g} it falls back there too."
    return Outcome(
        verdict=ClaimVerdict.CAVEAT,
        because="The lower bound is conditional on SETH, asymptotic and about worst cases, so no run can show it. What "
        f"runs: where every query looks for one key among {length:,} without structure, the planner falls back to "
        f"exact attention ({ratios['matching'][far]:.2f} of its speed at entries of {sizes[far]:g}, all planning "
        f"included); with entries as large but keys in clusters it uses “{methods['clustered'][far]}” and is "
        f"{ratios['clustered'][far]:.1f} times faster.{missed} Every error stays below {TOL:g}.",
        evidence=Evidence.MEASURED,
        conditions={
            f"every error below {TOL:g}": kept,
            "keys in clusters are answered without exact attention": bool(easy),
            "as large entries without structure, and the largest, fall back to exact attention": falls_back,
        },
        hypotheses=(
            Hypothesis.declared("SETH", "a conjecture; nothing here rests on it"),
            Hypothesis(
                text=f"entries beyond sqrt(log n), here {root:.1f}",
                status="CHECKED" if sizes[far] >= root else "DECLARED",
                detail=f"entries go up to {sizes[-1]:g} in every coordinate; but hard and easy heads differ "
                f"only as far as clusters are answered fast, at {sizes[far]:g}",
            ),
            Hypothesis.declared(
                "these instances are the hard ones of the proof",
                "they have its form, a search for close pairs among random vectors, at a size where n is small",
            ),
        ),
        numbers={"length": length, "sizes": list(sizes), "methods": methods, "faster": ratios, "rows": rows},
        figure=Curve(
            title="Equally large entries, hard and easy",
            x_label="size of queries and keys",
            y_label="times faster than exact",
            log_x=True,
            series=[
                Series(name="one key to find, no structure", x=list(sizes), y=ratios["matching"]),
                Series(name="keys and queries in clusters", x=list(sizes), y=ratios["clustered"]),
            ],
            note=f"n = {length:,}, head size {HEAD_DIM}, relative error at most {TOL:g}; planning and certifying "
            "included. One run each: read the order of magnitude.",
        ),
        blocks=(
            Table(
                title="Instance by instance",
                columns=["instance", "size", "method", "relative error", "times faster", "largest entry"],
                rows=rows,
            ),
            Text(
                text="For a user this means: the norm criterion alone never says that a head is expensive; the planner "
                "tries, certifies what it returns, and costs little where it fails."
            ),
        ),
    )


def matching(length: int, size: float, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Each query is one of the keys, random signs times `size`, in random order: it looks for that key alone."""
    signs = torch.randint(2, (length, HEAD_DIM), generator=generator) * 2.0 - 1.0
    order = torch.randperm(length, generator=generator)
    return size * signs[order], size * signs, torch.randn(length, HEAD_DIM, generator=generator)


def clusters(length: int, size: float, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Queries and keys near a few centres of random signs times `size`."""
    centres = torch.randint(2, (CLUSTERS, HEAD_DIM), generator=generator) * 2.0 - 1.0
    home = torch.randint(CLUSTERS, (2, length), generator=generator)
    query, key = (size * centres[part] + 0.05 * torch.randn(length, HEAD_DIM, generator=generator) for part in home)
    return query, key, torch.randn(length, HEAD_DIM, generator=generator) + centres[home[1]]


CLAIM = Claim(
    key="B4",
    title="Hard beyond the criterion, in the worst case",
    source="Hu et al. 2025, Theorem 3.1",
    statement="Under SETH no algorithm computes prompt inference in truly subquadratic time for all inputs whose "
    "queries and keys reach sqrt(log n).",
    run=run,
)
