"""N4: what a prompt is worth as a change of weights: rank one at a token, and the rank that many tokens need."""

import torch
from torch import Tensor

from promptreach.certificate import Evidence
from promptreach.claims.claim import Claim, ClaimVerdict, Hypothesis, Outcome, Setting
from promptreach.limits import prompt_to_update
from promptreach.prompt import SoftPrompt
from promptreach.report.findings import Cell, Curve, Series, Table, Text
from promptreach.weights import AttentionWeights, FeedForwardWeights, LayerWeights, NormWeights

HIDDEN = 16
FAMILIES = ("plain", "GPT-2", "BERT", "Llama")
ROUNDING = 1e-12
"""Residuals below this, beside the layer's largest output, are float64's rounding."""
TOLERANCE = 1e-9
"""Singular values up to this share of the largest count as 0."""


def run(setting: Setting) -> Outcome:
    """Random layers of four families: each token's own change, and the rank of all changes by the number of tokens."""
    layers = setting.pick(4, 250)
    generator = torch.Generator().manual_seed(setting.seed)
    residuals: dict[str, float] = {}
    agree = True
    for family in setting.followed(FAMILIES, "Changing layers"):
        worst = 0.0
        for _ in range(layers):
            prompt, states = SoftPrompt(_normal(generator, 3, HIDDEN)), _normal(generator, 6, HIDDEN)
            found = prompt_to_update(random_layer(family, generator), prompt, [states], tol=TOLERANCE)
            worst = max(worst, found.residual)
            agree &= found.rank == int(torch.linalg.matrix_rank(found.left, rtol=TOLERANCE))
        residuals[family] = worst
    counts = (1, 2, 4, 8, 12, 16, 24)
    ranks = {family: [_rank(family, count, generator) for count in counts] for family in FAMILIES}
    rows: list[list[Cell]] = [[family, residuals[family], *ranks[family]] for family in FAMILIES]
    largest = max(residuals.values())
    full = {family: min(HIDDEN, counts[-1]) for family in FAMILIES}
    return Outcome(
        verdict=ClaimVerdict.HOLDS,
        because=f"On {4 * layers:,} random layers of four families a change of rank one stands for the prompt at each "
        f"token, to {largest:.1g} of the layer's outputs. No one change of rank one stands for it at two: {counts[3]} "
        f"tokens need rank {ranks['BERT'][3]}, up to the hidden size, {HIDDEN}.",
        evidence=Evidence.MEASURED,
        conditions={
            "each token's own change is exact to rounding": largest < ROUNDING,
            "the rank found is the numerical rank": agree,
            "the rank grows with the tokens up to the hidden size": all(
                found[0] == 1 and found == sorted(found) and found[-1] == full[family]
                for family, found in ranks.items()
            ),
        },
        hypotheses=(
            Hypothesis.checked("one layer at given states at its input", "later layers see other states"),
            Hypothesis.checked(
                "random weights and states", "data of low rank need less: prompt_to_update says how much"
            ),
        ),
        numbers={"layers": 4 * layers, "residuals": residuals, "tokens": list(counts), "ranks": ranks},
        figure=Curve(
            title="Rank of the one change that does at all tokens what a prompt of three tokens does",
            x_label="tokens of the data",
            y_label="rank",
            series=[Series(name=name, x=list(counts), y=[float(item) for item in ranks[name]]) for name in FAMILIES],
            note=f"Random layers, hidden size {HIDDEN}.",
        ),
        blocks=(
            Table(
                title="Family by family",
                columns=["family", "largest residual at a token", *(f"rank, {count} tokens" for count in counts)],
                rows=rows,
            ),
            Text(
                text="What it means for your next prompt: prompt_to_update on your layer and rows gives the rank of "
                "the LoRA that does the same there. A small one says that LoRA loses nothing; one near the number of "
                "tokens says that the prompt acts on each token in its own way."
            ),
        ),
    )


def random_layer(family: str, generator: torch.Generator) -> LayerWeights:
    """A layer of normal weights in the shape of a family: its norms, activation, gate and shared keys and values."""
    heads, kv_heads, size = 4, 2 if family == "Llama" else 4, HIDDEN // 4

    def matrices(*shape: int) -> Tensor:
        drawn: Tensor = _normal(generator, *shape) / HIDDEN**0.5
        return drawn

    attention = AttentionWeights(
        query=matrices(heads, size, HIDDEN),
        key=matrices(kv_heads, size, HIDDEN),
        value=matrices(kv_heads, size, HIDDEN),
        output=matrices(HIDDEN, HIDDEN),
        output_bias=None if family in ("plain", "Llama") else _normal(generator, HIDDEN),
        causal=family in ("GPT-2", "Llama"),
    )
    network = FeedForwardWeights(
        up=matrices(4 * HIDDEN, HIDDEN),
        down=matrices(HIDDEN, 4 * HIDDEN),
        activation="relu" if family == "plain" else "silu" if family == "Llama" else "gelu",
        gate=matrices(4 * HIDDEN, HIDDEN) if family == "Llama" else None,
    )
    if family == "plain":
        return LayerWeights(attention, network)
    norms = [
        NormWeights(
            "rms" if family == "Llama" else "layer",
            1 + 0.1 * _normal(generator, HIDDEN),
            None if family == "Llama" else 0.1 * _normal(generator, HIDDEN),
        )
        for _ in range(2)
    ]
    return LayerWeights(attention, network, norms[0], norms[1], "post" if family == "BERT" else "pre")


def _rank(family: str, tokens: int, generator: torch.Generator) -> int:
    prompt, states = SoftPrompt(_normal(generator, 3, HIDDEN)), _normal(generator, tokens, HIDDEN)
    return prompt_to_update(random_layer(family, generator), prompt, [states], tol=TOLERANCE).rank


def _normal(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


CLAIM = Claim(
    key="N4",
    title="A prompt as a change of weights",
    source="this project, after arXiv 2511.17864; docs/theory/wang-4-lora.md",
    statement="At one layer and one token a prompt does what a change of rank one of the output projection does "
    "without it; all tokens together need the rank of their changes.",
    run=run,
)
