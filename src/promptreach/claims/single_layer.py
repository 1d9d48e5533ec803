"""B1: one attention layer with one head is enough, and what it costs in width or in depth."""

from promptreach.certificate import Evidence
from promptreach.claims.claim import Claim, ClaimVerdict, Hypothesis, Outcome, Setting
from promptreach.claims.experiments import largest_errors
from promptreach.compiler import PlanTooLargeError, build_backbone, plan_backbone
from promptreach.report.findings import Cell, Curve, Series, Table, Text

PLANNED = {
    "single_layer": "one layer, wide (paper B)",
    "deep": "deep, narrow (paper A)",
    "programmable": "one layer, the function in the prompt (here)",
}
"""The constructions whose sizes are compared, and what each is called."""


def run(setting: Setting) -> Outcome:
    """Build the single-layer construction where it fits; set its size beside the deep one's and the one here."""
    tols = setting.pick((0.3, 0.15), (0.5, 0.3, 0.2, 0.15, 0.12, 0.1))
    functions = setting.pick(2, 8)
    rows: list[list[Cell]] = []
    sizes: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in PLANNED}
    kept = True
    for tol in setting.followed(tols, "tolerances"):
        counts: list[Cell] = []
        for name in PLANNED:
            try:
                parameters = plan_backbone(1, 1, 1.0, tol, name).parameters
            except PlanTooLargeError:
                counts.append(None)
                continue
            counts.append(parameters)
            sizes[name][0].append(1 / tol)
            sizes[name][1].append(float(parameters))
        backbone = build_backbone(1, 1, 1.0, tol, "single_layer")
        worst, bound = largest_errors(backbone, functions, setting.seed)
        kept &= worst <= bound <= tol
        rows.append([tol, backbone.plan.slots, worst, bound, *counts])
    return Outcome(
        verdict=ClaimVerdict.CAVEAT,
        because=f"With one attention layer of one head, {functions} functions a tolerance stay within certificates "
        f"down to {tols[-1]:g} for one token of one number. It is a table over all pairs of a prompt and an input: "
        "width is traded for depth, but the whole size stays exponential in prompt and input, and at "
        f"{float(rows[-1][4] or 0) / float(rows[0][4] or 1):,.0f} times the weights of tolerance {tols[0]:g} that ends "
        "soon. A single-layer construction that keeps the function in the prompt alone does without the table.",
        evidence=Evidence.PROVED,
        conditions={"every error within its certificate and every certificate within the tolerance": kept},
        hypotheses=(
            Hypothesis.checked("one attention layer with one head; feed-forward layers as wide or as many as it takes"),
            Hypothesis.checked(
                "no token repeats inside a sequence, and tokens are separated",
                "the quantiser gives every position its own grid",
            ),
            Hypothesis.declared(
                "the separation that the paper proves for its contextual map",
                "its digits do not fit any float; the separation that was reached is measured instead",
            ),
        ),
        numbers={
            "rows": rows,
            "parameters": {name: {"one_over_tol": x, "parameters": y} for name, (x, y) in sizes.items()},
        },
        figure=Curve(
            title="Frozen weights against the tolerance",
            x_label="1 / tol",
            y_label="weights",
            log_x=True,
            log_y=True,
            series=[Series(name=PLANNED[name], x=x, y=y) for name, (x, y) in sizes.items() if x],
            note="One token of one number, Lipschitz constant 1.",
        ),
        blocks=(
            Table(
                title="The single-layer construction, measured, and the sizes of all three",
                columns=["tol", "virtual tokens", "largest error", "certificate", "one layer", "deep", "here"],
                rows=rows,
            ),
            Text(text="A dash: it takes more than 2 GiB."),
        ),
    )


CLAIM = Claim(
    key="B1",
    title="One layer with one head is enough",
    source="Hu et al. 2025, Theorems 2.3 and 2.4",
    statement="A transformer with a single attention layer of a single head, with many narrow or two wide feed-forward "
    "layers, is turned into any Lipschitz sequence-to-sequence function by a prompt.",
    run=run,
)
