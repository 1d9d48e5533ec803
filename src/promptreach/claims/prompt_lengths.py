"""B2: how long a prompt has to be for a whole class of functions, by construction and by counting."""

from promptreach.certificate import Evidence
from promptreach.claims.claim import Claim, ClaimVerdict, Hypothesis, Outcome, Setting
from promptreach.claims.experiments import errors_by_prompt
from promptreach.compiler import build_backbone, gallery_function
from promptreach.limits import prompt_length
from promptreach.report.findings import Cell, Curve, Series, Table, Text


def run(setting: Setting) -> Outcome:
    """Both formulas over size and tolerance, and a construction that is built and measured where it fits."""
    sizes = setting.pick((1, 2, 4), (1, 2, 3, 4, 6, 8))
    tols = setting.pick((0.3, 0.1, 0.03), (0.5, 0.3, 0.2, 0.1, 0.05, 0.03, 0.01))
    by_size = {size: prompt_length(1, size, 1.0, 0.1) for size in sizes}
    by_tol = {tol: prompt_length(1, 2, 1.0, tol) for tol in tols}
    built: list[dict[str, float | int]] = []
    rows: list[list[Cell]] = []
    kept = True
    for tol in setting.pick((0.3, 0.1), (0.3, 0.2, 0.1, 0.05)):
        backbone = build_backbone(1, 2, 1.0, tol)
        error, bound = errors_by_prompt(backbone, gallery_function("sort", 1, 2, 1.0), setting.seed)
        kept &= error <= bound <= tol
        length = prompt_length(1, 2, 1.0, tol)
        slots, width = backbone.plan.slots, backbone.plan.hidden_size
        # The tokens built here are wider than the papers', so that fewer of them could tell as much apart.
        wide = prompt_length(1, 2, 1.0, tol, precision=64, hidden_size=width).necessary_tokens
        built.append({"tol": tol, "slots": slots, "hidden_size": width, "necessary": wide or 0, "error": error})
        rows.append(
            [tol, length.necessary_tokens, length.index_tokens, length.sufficient_tokens, slots, width, wide, error]
        )
    ordered = all(length.necessary_log10 <= length.sufficient_log10 for length in (*by_size.values(), *by_tol.values()))
    enough = all(item["slots"] >= item["necessary"] for item in built)
    shorter = all(item["slots"] < prompt_length(1, 2, 1.0, item["tol"]).sufficient.value for item in built)
    last = built[-1]
    sufficient = [by_size[size].sufficient_log10 for size in sizes]
    necessary = [by_size[size].necessary_log10 for size in sizes]
    index = [by_size[size].index_log10 for size in sizes]
    growth = (sufficient[-1] - sufficient[0]) / (sizes[-1] - sizes[0])
    return Outcome(
        verdict=ClaimVerdict.CAVEAT,
        because=f"The length of the paper's table grows by a factor of 10^{growth:.1f} with each further token at "
        "tolerance 0.1, exponential as stated; in 1/tol the formula is a power, not an exponential. And it is the "
        f"length of one construction: it suffices. Another, built here, keeps a mean error of {last['tol']} with "
        f"{last['slots']} virtual tokens of {last['hidden_size']} numbers where the table has {rows[-1][3]:,} of one. "
        "What is proved of every backbone, by counting functions, depends on what a virtual token can hold: with one "
        f"number of 32 bits in each, as the papers' have on these inputs, at least {rows[-1][1]:,} there and "
        f"10^{necessary[-1]:.1f} for {sizes[-1]} tokens at tolerance 0.1; with {last['hidden_size']} numbers of 64 "
        f"bits, {last['necessary']}.",
        evidence=Evidence.PROVED,
        conditions={
            "no necessary length above a sufficient one": ordered and enough,
            "the construction keeps to its certificates, and they to the tolerance": kept,
            "the construction is shorter than the paper's table": shorter,
        },
        hypotheses=(
            Hypothesis.checked(
                "all functions of a Lipschitz constant on the unit cube, one fixed backbone, prompts alone differ",
                "both formulas are derived for exactly that class (docs/theory/lipschitz.md, 8 and 9)",
            ),
            Hypothesis.declared(
                "a prompt entry takes at most 2^32 values",
                "without a precision, prompts cannot be counted and no lower bound is known",
            ),
            Hypothesis.declared(
                "a virtual token has as many numbers as an input token",
                "so in the papers; wider ones need fewer, see the table",
            ),
            Hypothesis.declared(
                "the paper's own transformer reads one table vector from each prompt token",
                "its weights do not fit beyond four or five tokens",
            ),
        ),
        numbers={
            "sizes": list(sizes),
            "sufficient_log10": sufficient,
            "index_log10": index,
            "necessary_log10": necessary,
            "tols": list(tols),
            "sufficient_log10_by_tol": [by_tol[tol].sufficient_log10 for tol in tols],
            "necessary_log10_by_tol": [by_tol[tol].necessary_log10 for tol in tols],
            "built": built,
        },
        figure=Curve(
            title="Prompt length for all Lipschitz functions of n numbers",
            x_label="numbers in an input (tokens of one number)",
            y_label="log10 of virtual tokens",
            series=[
                Series(name="sufficient: the paper's table", x=list(sizes), y=sufficient),
                Series(name="enough: the table's number, at 32 bits a token", x=list(sizes), y=index),
                Series(name="necessary: counting, 32 bits a token", x=list(sizes), y=necessary),
            ],
            note="Virtual tokens of one number. Lipschitz constant 1, error 0.1. What the best backbone needs "
            "lies between the two lower lines.",
        ),
        blocks=(
            Table(
                title="Two tokens of one number: what is needed, built and stated",
                columns=[
                    "tol",
                    "necessary",
                    "the table's number",
                    "the paper's table",
                    "built here",
                    "numbers a token of it",
                    "necessary at that width",
                    "measured error",
                ],
                rows=rows,
                note="The first three lengths are in tokens of one number, for the largest error over all inputs; the "
                "construction keeps the mean error, d_2.",
            ),
            Text(
                text="The paper calls its length a lower bound. As quoted, the statement is that a prompt of at least "
                "that length exists. Read as a number of tokens that is required it is wrong: the class lies within "
                "the tolerance of finitely many functions, so their number, in the digits of the prompt's entries, "
                "selects one; at 32 bits an entry that is shorter, and with real entries it is a single token. What "
                "no backbone can do without is what counting says, at a stated precision."
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
