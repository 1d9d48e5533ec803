"""R1: prompt tuning and the methods it is compared with, at equal numbers of trainable parameters."""

from promptreach.certificate import Evidence
from promptreach.claims.claim import Claim, ClaimVerdict, Hypothesis, Outcome, Setting
from promptreach.claims.packaged import MINILM, TEXTS, minilm, reviews
from promptreach.report.findings import Cell, Curve, Series, Table, Text
from promptreach.training.fit import fit
from promptreach.training.methods.budget import MethodSize, equal_sizes
from promptreach.training.runs import Run
from promptreach.training.task.limits import Limits

METHODS = ("prompt", "prefix", "lora", "unipelt")


def run(setting: Setting) -> Outcome:
    """Every method at each budget on the same rows, steps and read-out; several seeds in full."""
    layers = setting.pick(2, None)
    budgets = setting.pick((24_000,), (12_000, 48_000))
    seeds = [setting.seed + index for index in range(setting.pick(1, 3))]
    steps, batch_size = setting.pick((8, 8), (150, 16))
    limits = setting.pick(Limits(48, 16, 32, 32), Limits(2048, 256, 1024, 128))
    model, data = minilm(layers), reviews()

    def trained(size: MethodSize, seed: int, learning_rate: float | None = None) -> Run:
        return fit(
            model,
            data,
            size.method,
            tokens=max(1, size.tokens),
            rank=max(1, size.rank),
            bottleneck=max(1, size.bottleneck),
            learning_rate=learning_rate,
            steps=steps,
            batch_size=batch_size,
            seed=seed,
            limits=limits,
            folder=setting.folder,
            quiet=setting.progress.quiet,
        )

    by_budget = [(budget, equal_sizes(model, budget, METHODS)) for budget in budgets]
    sizes = [(budget, size) for budget, chosen in by_budget for size in chosen.values() if size is not None]
    rows: list[list[Cell]] = []
    found: dict[str, tuple[list[float], list[float]]] = {}
    for budget, size in setting.followed(sizes, "methods and budgets"):
        first = trained(size, seeds[0])
        others = [trained(size, seed, first.config.learning_rate) for seed in seeds[1:]]
        scores = [_accuracy(run) for run in (first, *others)]
        mean, spread = sum(scores) / len(scores), max(scores) - min(scores)
        named = ", ".join(f"{name} {value}" for name, value in size.arguments.items())
        rows.append([budget, size.method, named, size.parameters, mean, spread])
        x, y = found.setdefault(size.method, ([], []))
        x.append(float(size.parameters))
        y.append(mean)
    head = [_accuracy(fit(model, data, "head", seed=seed, limits=limits, quiet=True)) for seed in seeds]
    rows.append([0, "head alone", "", 0, sum(head) / len(head), max(head) - min(head)])
    best = max(rows, key=lambda row: float(row[4] or 0))
    prompts = [row for row in rows if row[1] == "prompt"]
    best_prompt = max(prompts, key=lambda row: float(row[4] or 0))
    seen = (
        f"Best of the table: {best[1]} with {best[3]:,} parameters, {float(best[4] or 0):.1%} of held-out rows "
        f"right; prompt tuning {float(best_prompt[4] or 0):.1%}, the head alone {sum(head) / len(head):.1%}. The "
        "published gains are averages over many tasks and models; one encoder and one dataset cannot confirm or refute "
        "them."
    )
    quick = f"{layers} layers and {steps} steps show that it runs, not what is true; run it with --full."
    conditions = {
        f"at a budget of {budget:,} some rival beats the prompt by more than the seeds differ": is_ahead(
            [row for row in rows if row[0] == budget]
        )
        for budget in budgets
    }
    return Outcome(
        verdict=setting.pick(ClaimVerdict.NOT_EXECUTABLE, ClaimVerdict.CAVEAT),
        missed=ClaimVerdict.NOT_REPRODUCED,
        because=setting.pick(quick, ""),
        seen=seen,
        evidence=Evidence.MEASURED,
        conditions=setting.pick({}, conditions),
        hypotheses=(
            Hypothesis.checked(
                "equal numbers of trainable parameters",
                "the largest size of each method below the budget; the shared head is not counted",
            ),
            Hypothesis.declared(
                "every method at its best learning rate", "a short search of each at the first seed, on validation rows"
            ),
        ),
        numbers={"rows": rows, "budgets": list(budgets), "seeds": seeds, "head": head},
        figure=Curve(
            title="Held-out accuracy at equal parameters",
            x_label="trainable numbers",
            y_label="accuracy",
            log_x=True,
            series=[Series(name=name, x=x, y=y) for name, (x, y) in found.items()],
            note=f"MiniLM{setting.pick(f', its first {layers} layers', '')}, film reviews; mean of {len(seeds)} seeds.",
        ),
        blocks=(
            Table(
                title="One table",
                columns=["budget", "method", "sizes", "parameters", "accuracy", "largest - smallest seed"],
                rows=rows,
            ),
            Text(
                text="P-tuning v2 is a prefix at every layer. UniPELT's gates are built so that a closed one is truly "
                "off (docs of promptreach.hf.adapters.unipelt); the published gate is not."
            ),
        ),
    )


def is_ahead(rows: list[list[Cell]]) -> bool:
    """Whether the best rival among a budget's rows is ahead of the prompt by more than either's seeds differ."""
    prompt = next(row for row in rows if row[1] == "prompt")
    rivals = [row for row in rows if row[1] != "prompt"]
    best = max(rivals, key=lambda row: float(row[4] or 0))
    lead = float(best[4] or 0) - float(prompt[4] or 0)
    return lead > max(float(best[5] or 0), float(prompt[5] or 0))


def _accuracy(found: Run) -> float:
    assert found.held_out is not None
    return found.held_out.accuracy


CLAIM = Claim(
    key="R1",
    title="The rivals at equal parameters",
    source="P-tuning v2 (Liu et al. 2022), UniPELT (Mao et al. 2022), LoRA (Hu et al. 2022)",
    statement="Prefixes at every layer, LoRA and gated mixtures of them do better than a prompt at the input with as "
    "many trainable parameters.",
    run=run,
    needs=(MINILM, TEXTS),
)
