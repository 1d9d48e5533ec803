"""A3: data that cost a prompt a token an example, beside what a low-rank update pays for the same data."""

import torch

from promptreach.certificate import Evidence
from promptreach.claims.claim import Claim, ClaimVerdict, Hypothesis, Outcome, Setting
from promptreach.claims.experiments import random_head
from promptreach.limits import compare_with_lora, low_rank_fit, tokens_needed
from promptreach.limits.oracle.forward import last_outputs
from promptreach.report.findings import Cell, Curve, Series, Table, Text

FITTED = 1e-8


def run(setting: Setting) -> Outcome:
    """For growing numbers of examples: the certified tokens, the prompt that meets them, and an update that fits."""
    counts = setting.pick((1, 2, 4, 8), (1, 2, 4, 8, 16, 32))
    hidden = 2 * counts[-1]
    head = random_head(hidden, hidden, torch.Generator().manual_seed(setting.seed))
    rows: list[list[Cell]] = []
    tokens: list[int] = []
    prompt_numbers: list[float] = []
    update_numbers: list[float] = []
    proved, fitted = True, True
    for count in counts:
        data = tokens_needed(head, count, setting.seed)
        size = float(data.targets.square().mean().sqrt())
        reached = last_outputs(head, data.sequences, None, data.prompt)
        prompt_error = float((reached - data.targets).abs().max()) / size
        update = low_rank_fit(last_outputs(head, data.sequences), data.targets)
        bound = int(data.certificate.value)
        proved &= bound == count and data.certificate.recheck()
        fitted &= max(prompt_error, update.error / size) < FITTED
        tokens.append(bound)
        prompt_numbers.append(bound * hidden)
        update_numbers.append(update.parameters)
        rows.append([count, bound, bound * hidden, prompt_error, update.parameters, update.error / size])
    published = compare_with_lora(hidden, list(counts), width=4 * hidden)
    fewer = sum(row.fewer == "lora" for row in published)
    return Outcome(
        verdict=ClaimVerdict.CAVEAT,
        because=f"It is proved that n examples need n tokens ({counts[-1]} of them at most here), and prompts of n "
        f"tokens give them exactly. But both sides grow like n times the hidden size: a rank-n update of n hidden "
        f"units also fits, with {update_numbers[-1] / prompt_numbers[-1]:.2f} times the prompt's numbers, and LoRA on "
        f"a feed-forward network of four times the hidden size has fewer in {fewer} of {len(counts)} cases"
        f"{'.' if fewer else ': an update needs no fewer numbers here. Claim N2 has data where it does.'}",
        evidence=Evidence.PROVED,
        conditions={
            "n examples are certified to need n tokens": proved,
            "n tokens, and an update of n units, give the targets": fitted,
        },
        hypotheses=(
            Hypothesis.checked(
                "outputs without a prompt and targets are 2n independent vectors",
                "certified least singular value above 0",
            ),
            Hypothesis.checked("one attention head; the targets are wanted exactly"),
            Hypothesis.declared(
                "the paper's own count of LoRA parameters",
                "not recovered from the text at hand; the counts here are of our own construction",
            ),
        ),
        numbers={
            "examples": list(counts),
            "tokens": tokens,
            "prompt_parameters": prompt_numbers,
            "update_parameters": update_numbers,
            "hidden_size": hidden,
            "lora_fewer_than_prompt": fewer,
        },
        figure=Curve(
            title="What n examples cost at least, and what an update pays",
            x_label="examples",
            y_label="trainable numbers",
            log_x=True,
            log_y=True,
            series=[
                Series(name="prompt: proved lower bound, and reached", x=list(counts), y=prompt_numbers),
                Series(name="low-rank update: a construction that fits", x=list(counts), y=update_numbers),
            ],
            note=f"Hidden size {hidden}. Two lines of one slope: a difference of constants.",
        ),
        blocks=(
            Table(
                title="Example by example",
                columns=["examples", "tokens ≥", "prompt numbers ≥", "prompt's error", "update numbers", "its error"],
                rows=rows,
            ),
            Text(
                text="A lower bound on prompts against a construction for LoRA decides who needs fewer only where the "
                "construction is below the bound. The data are special: examples that share structure need fewer."
            ),
        ),
    )


CLAIM = Claim(
    key="A3",
    title="A token for every example",
    source="Wang et al. 2023, Theorems 3 and 4",
    statement="There are data of n examples that a prompt memorises only with n tokens or more, while a low-rank "
    "update of rank n memorises them, with fewer parameters for some data.",
    run=run,
)
