"""N3: one frozen transformer, every function, every tolerance: the prompt alone brings the resolution."""

from promptreach.certificate import Evidence
from promptreach.claims.claim import Claim, ClaimVerdict, Hypothesis, Outcome, Setting
from promptreach.compiler import build_backbone, measure
from promptreach.compiler.gallery import random_function
from promptreach.report.findings import Cell, Curve, Series, Table, Text

TOLERANCES = (0.1, 0.03, 0.01)
SIZES = ((1, 1), (1, 2))
"""Entries of a token, and tokens."""


def run(setting: Setting) -> Outcome:
    """For each size one set of weights, random functions at each tolerance, their certificates and measured errors."""
    functions, points = setting.pick((2, 500), (50, 1000))
    tolerances = setting.pick(TOLERANCES[:2], TOLERANCES)
    rows: list[list[Cell]] = []
    lengths: dict[str, list[int]] = {}
    same, within, confirmed = True, True, True
    for dim, tokens in SIZES:
        frozen = build_backbone(dim, tokens, 1.0, tolerances[0], "one_for_all")
        found: list[int] = []
        for tol in setting.followed(tolerances, f"Compiling for {tokens} tokens of {dim}"):
            planner = build_backbone(dim, tokens, 1.0, tol, "one_for_all")
            same &= planner.fingerprint == frozen.fingerprint
            worst = certified = 0.0
            for index in range(functions):
                target = random_function(dim, tokens, 1.0, 1000 * setting.seed + index)
                prompt = planner.prompt_for(target)
                assert prompt.certificate is not None
                error = measure(frozen, prompt, target, points, seed=setting.seed + index).error.value
                worst, certified = max(worst, error), max(certified, prompt.certificate.value)
                within &= error <= prompt.certificate.value <= tol
                confirmed &= prompt.certificate.evidence is Evidence.PROVED
            found.append(planner.plan.slots)
            rows.append([f"({dim}, {tokens})", tol, planner.plan.slots, certified, worst, frozen.plan.parameters])
        lengths[f"({dim}, {tokens})"] = found
    return Outcome(
        verdict=ClaimVerdict.HOLDS,
        because=f"For {len(SIZES)} sizes of input one set of weights, fixed before any tolerance, was prompted into "
        f"{functions} random functions each at the tolerances {', '.join(f'{tol:g}' for tol in tolerances)}: all stay "
        f"within their certificates, with {rows[-1][2]:,} virtual tokens at most. The theorems of the papers fix the "
        "tolerance first.",
        evidence=Evidence.PROVED,
        conditions={
            "the weights for all tolerances are equal, bit by bit": same,
            "every measured error is within its certificate, and that within the tolerance": within,
            "every certificate is proved": confirmed,
        },
        hypotheses=(
            Hypothesis.checked(
                "continuous inputs in the unit cube, no causal mask, no norms: a specially built backbone"
            ),
            Hypothesis.checked("the error is a mean over inputs, d_2, not the worst input", "the sup bound is larger"),
            Hypothesis.checked("float64: the one gap in the weights, 700 nats, covers all that float64 can hold"),
        ),
        numbers={"tolerances": list(tolerances), "lengths": lengths, "functions": functions},
        figure=Curve(
            title="Virtual tokens that a smaller tolerance takes, on the same frozen weights",
            x_label="tolerance",
            y_label="virtual tokens",
            log_x=True,
            log_y=True,
            series=[
                Series(name=f"tokens, entries of each: {size}", x=list(tolerances), y=[float(item) for item in found])
                for size, found in lengths.items()
            ],
            note=f"{functions} functions at each point, all certified.",
        ),
        blocks=(
            Table(
                title="Tolerance by tolerance",
                columns=["(dim, tokens)", "tolerance", "prompt length", "certified", "largest measured", "weights"],
                rows=rows,
            ),
            Text(
                text="What it means for your next prompt: that a backbone is too coarse for a task is never a matter "
                "of principle here; precision is bought with prompt length, exponentially in the size of the input."
            ),
        ),
    )


CLAIM = Claim(
    key="N3",
    title="One transformer for every tolerance",
    source="this project, after Wang et al. 2023, Theorem 1; docs/theory/wang-1-universality.md",
    statement="For every size of input there is one transformer that prompts turn into every Lipschitz function of "
    "that size to within every tolerance: the weights depend on neither.",
    run=run,
)
