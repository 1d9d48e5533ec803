"""B2: how long a prompt has to be for a whole class of functions, by construction and by counting."""

from promptreach.audit.findings import Cell, Curve, Series, Table, Text
from promptreach.certificate import Evidence
from promptreach.claims.claim import Claim, ClaimVerdict, Hypothesis, Outcome, Setting
from promptreach.compiler import build_backbone, gallery_function, measure
from promptreach.limits import prompt_length


def run(setting: Setting) -> Outcome:
    """Both formulas over size and tolerance, and a construction that is built and measured where it fits."""
    sizes = setting.pick((1, 2, 4), (1, 2, 3, 4, 6, 8))
    tols = setting.pick((0.3, 0.1, 0.03), (0.5, 0.3, 0.2, 0.1, 0.05, 0.03, 0.01))
    by_size = {size: prompt_length(1, size, 1.0, 0.1) for size in sizes}
    by_tol = {tol: prompt_length(1, 2, 1.0, tol) for tol in tols}
    built: list[tuple[float, int, float]] = []
    rows: list[list[Cell]] = []
    for tol in setting.pick((0.3, 0.1), (0.3, 0.2, 0.1, 0.05)):
        backbone = build_backbone(1, 2, 1.0, tol)
        function = gallery_function("sort", 1, 2, 1.0)
        prompt = backbone.prompt_for(function)
        error = measure(backbone, prompt, function, seed=setting.seed).error.value
        length = prompt_length(1, 2, 1.0, tol)
        built.append((tol, backbone.plan.slots, error))
        rows.append([tol, length.necessary_tokens, backbone.plan.slots, length.sufficient_tokens, error])
    ordered = all(length.necessary_log10 <= length.sufficient_log10 for length in (*by_size.values(), *by_tol.values()))
    kept = all(error <= tol for tol, _, error in built)
    shorter = all(slots < prompt_length(1, 2, 1.0, tol).sufficient.value for tol, slots, _ in built)
    sufficient = [by_size[size].sufficient_log10 for size in sizes]
    necessary = [by_size[size].necessary_log10 for size in sizes]
    growth = (sufficient[-1] - sufficient[0]) / (sizes[-1] - sizes[0])
    return Outcome(
        verdict=ClaimVerdict.CAVEAT if ordered and kept and shorter else ClaimVerdict.FAILS,
        because=f"The length of the paper's table grows by a factor of 10^{growth:.1f} with each further token at "
        "tolerance 0.1, exponential as stated; in 1/tol the formula is a power, not an exponential. And it is the "
        f"length of one construction: it suffices. Another, built here, keeps to tolerance {built[-1][0]} with "
        f"{built[-1][1]} virtual tokens where the table has {rows[-1][3]:,}. What is proved of every backbone, by "
        f"counting functions at 32 bits an entry, is {rows[-1][1]:,} there, and 10^{necessary[-1]:.1f} for {sizes[-1]} "
        "tokens at tolerance 0.1.",
        evidence=Evidence.PROVED,
        hypotheses=(
            Hypothesis(
                text="all functions of a Lipschitz constant on the unit cube, one fixed backbone, prompts alone differ",
                status="CHECKED",
                detail="both formulas are derived for exactly that class (docs/theory/lipschitz.md, 8 and 9)",
            ),
            Hypothesis(
                text="a prompt entry takes at most 2^32 values",
                status="DECLARED",
                detail="without a precision, prompts cannot be counted and no lower bound is known",
            ),
            Hypothesis(
                text="the paper's own transformer reads one table vector from each prompt token",
                status="DECLARED",
                detail="its weights do not fit beyond four or five tokens",
            ),
        ),
        numbers={
            "sizes": list(sizes),
            "sufficient_log10": sufficient,
            "necessary_log10": necessary,
            "tols": list(tols),
            "sufficient_log10_by_tol": [by_tol[tol].sufficient_log10 for tol in tols],
            "necessary_log10_by_tol": [by_tol[tol].necessary_log10 for tol in tols],
            "built": [{"tol": tol, "slots": slots, "error": error} for tol, slots, error in built],
        },
        figure=Curve(
            title="Prompt length for all Lipschitz functions of n numbers",
            x_label="numbers in an input (tokens of one number)",
            y_label="log10 of virtual tokens",
            series=[
                Series(name="sufficient: the paper's table", x=list(sizes), y=sufficient),
                Series(name="necessary: counting, 32 bits an entry", x=list(sizes), y=necessary),
            ],
            note="Lipschitz constant 1, error 0.1. Between the lines nothing is known.",
        ),
        blocks=(
            Table(
                title="Two tokens of one number: what is needed, built and stated",
                columns=["tol", "necessary", "built here", "the paper's table", "measured error"],
                rows=rows,
            ),
            Text(
                text="The paper calls its length a lower bound. As quoted, the statement is that a prompt of at least "
                "that length exists; that shorter ones fail is not shown, and the construction here is shorter."
            ),
        ),
    )


CLAIM = Claim(
    key="B2",
    title="Exponentially long prompts",
    source="Hu et al. 2025, Theorem 2.5",
    statement="Memorising any data that agree with a Lipschitz function takes a number of soft tokens that is "
    "exponential in dL and in 1/tol: at least L (2 C (dL)^(1/alpha) / tol)^(dL).",
    run=run,
)
