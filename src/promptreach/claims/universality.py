"""A1: one frozen transformer that a prompt alone turns into any Lipschitz function."""

import itertools

from promptreach.certificate import Evidence
from promptreach.claims.claim import Claim, ClaimVerdict, Hypothesis, Outcome, Setting
from promptreach.claims.experiments import largest_errors
from promptreach.compiler import PlanTooLargeError, build_backbone
from promptreach.report.findings import Cell, Curve, Series, Table, Text

POINTS = 20_000


def run(setting: Setting) -> Outcome:
    """Freeze backbones by size and tolerance, give each several functions by prompt, and measure."""
    shapes = setting.pick(((1, 1), (1, 2)), ((1, 1), (1, 2), (2, 1), (1, 3), (2, 2)))
    tols = setting.pick((0.3, 0.1), (0.3, 0.2, 0.1, 0.05, 0.02))
    functions = setting.pick(3, 10)
    rows: list[list[Cell]] = []
    curves: dict[str, tuple[list[float], list[float]]] = {}
    kept, papers = True, []
    for (dim, tokens), tol in setting.followed(list(itertools.product(shapes, tols)), "sizes and tolerances"):
        try:
            backbone = build_backbone(dim, tokens, 1.0, tol)
        except PlanTooLargeError:
            rows.append([f"{tokens} x {dim}", tol, None, None, None, None])
            continue
        error, bound = largest_errors(backbone, functions, setting.seed, POINTS)
        kept &= error <= bound <= tol
        rows.append([f"{tokens} x {dim}", tol, backbone.plan.slots, backbone.plan.parameters, error, bound])
        lengths, found = curves.setdefault(f"{tokens} tokens of {dim}", ([], []))
        lengths.append(float(backbone.plan.slots))
        found.append(error)
    for tol in setting.pick((0.3,), (0.3, 0.2, 0.1, 0.05)):
        try:
            papers.append((tol, build_backbone(1, 1, 1.0, tol, "deep").plan.parameters))
        except PlanTooLargeError:
            break
    smallest = min(tol for tol, _ in papers) if papers else None
    own = build_backbone(1, 1, 1.0, smallest or tols[0]).plan.parameters
    return Outcome(
        verdict=ClaimVerdict.HOLDS,
        because=f"{functions} random functions a size, each given to the same frozen weights by a prompt alone, all "
        "stay within their certificates and those within the tolerance. The paper's own construction is a table over "
        f"pairs of prompt and input: at tolerance {smallest} it takes {papers[-1][1] if papers else 0:,} weights where "
        f"the one here takes {own:,}.",
        evidence=Evidence.PROVED,
        conditions={"every error within its certificate and every certificate within the tolerance": kept},
        hypotheses=(
            Hypothesis.checked(
                "continuous inputs in the unit cube, no causal mask, no norms: a specially built backbone",
                "it says nothing of a given pretrained model",
            ),
            Hypothesis.checked("the functions have Lipschitz constant 1", "by how they are made (compiler/gallery.py)"),
            Hypothesis.checked("the error is a mean over inputs, d_2, not the worst input"),
        ),
        numbers={
            "sizes": [list(shape) for shape in shapes],
            "rows": rows,
            "functions": functions,
            "paper_construction": [{"tol": tol, "parameters": count} for tol, count in papers],
        },
        figure=Curve(
            title="Error against the length of the prompt",
            x_label="virtual tokens",
            y_label="largest measured d_2 error",
            log_x=True,
            log_y=True,
            series=[Series(name=name, x=x, y=y) for name, (x, y) in curves.items()],
            note=f"The largest over {functions} functions of constant 1, on {POINTS:,} fresh points each.",
        ),
        blocks=(
            Table(
                title="By size and tolerance",
                columns=["input", "tol", "virtual tokens", "frozen weights", "largest error", "certificate"],
                rows=rows,
                note="A dash: it takes more than 2 GiB.",
            ),
            Text(text="The proof and the construction: docs/theory/programmable.md."),
        ),
    )


CLAIM = Claim(
    key="A1",
    title="One transformer, any function, by prompt alone",
    source="Wang et al. 2023, Theorem 1",
    statement="For every size of input, Lipschitz constant and tolerance there is one transformer such that for every "
    "sequence-to-sequence function of that class some prompt makes it approximate the function to within the "
    "tolerance.",
    run=run,
)
